//! The search for a legal order, on histories that others have published and judged: those of the tests of porcupine, a checker by Anish Athalye (MIT
//! licence), some of which are runs of Jepsen on etcd by Kyle Kingsbury. A file says in its first line whether it is linearizable. A line is an
//! operation: when it was called, when it returned (`-`: nobody knows whether it took effect), what it did.

use synod_sim::linearizability::{Action, Operation, Value, Verdict, check};

/// Steps of the search, more than any of these needs.
const BUDGET: u64 = 1 << 24;

fn value(word: &str) -> Value {
    (word != "nil").then(|| word.parse().expect("a number"))
}

fn operation(line: &str) -> Operation {
    let words: Vec<&str> = line.split_whitespace().collect();
    let action = match words[2..] {
        ["read", seen] => Action::Read(value(seen)),
        ["write", new] => Action::Write(value(new)),
        ["cas", expected, new] => Action::Swap {
            expected: value(expected),
            new: value(new),
        },
        ["refused", expected] => Action::Refused {
            expected: value(expected),
        },
        _ => panic!("no operation: {line}"),
    };
    Operation {
        called: words[0].parse().expect("a time"),
        returned: (words[1] != "-").then(|| words[1].parse().expect("a time")),
        action,
    }
}

#[test]
fn published_histories_are_judged_as_published() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories");
    let mut judged = [0, 0];
    for entry in std::fs::read_dir(directory).expect("the histories are there") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let (head, body) = text.split_once('\n').expect("a first line");
        let linearizable = head.starts_with("# linearizable");
        assert!(linearizable || head.starts_with("# not linearizable"));
        let initial = match head.split_once("begins with ") {
            Some((_, word)) => value(word),
            None => None,
        };
        let history: Vec<Operation> = body.lines().map(operation).collect();
        let verdict = check(initial, &history, BUDGET);
        assert_eq!(
            verdict == Verdict::Linearizable,
            linearizable,
            "{}: {verdict:?}",
            path.display()
        );
        assert_ne!(verdict, Verdict::Undecided, "{}", path.display());
        judged[usize::from(linearizable)] += 1;
    }
    assert!(judged[0] >= 4 && judged[1] >= 4, "{judged:?}");
}
