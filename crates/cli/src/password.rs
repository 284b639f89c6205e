//! Passwords: given after the name, or asked for where nobody can read along.

use crate::output::Failed;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Write};

/// The user of `--user NAME[:PASSWORD]` and `--password`; the password is asked for if it is in neither.
pub(crate) fn user(text: &str, password: Option<String>) -> Result<(String, String), Failed> {
    let (name, given) = match (text.split_once(':'), password) {
        (_, Some(password)) => (text, Some(password)),
        (Some((name, password)), None) => (name, Some(password.to_owned())),
        (None, None) => (text, None),
    };
    if name.is_empty() {
        return Err(Failed::Usage(
            "user: the name is missing; write --user NAME[:PASSWORD]".into(),
        ));
    }
    let password = match given {
        Some(password) => password,
        None => ask(&format!("Password of {name}: "))?,
    };
    Ok((name.to_owned(), password))
}

/// Asks for a new password; on a terminal twice, as nobody sees what is typed.
pub(crate) fn ask_twice(question: &str) -> Result<String, Failed> {
    let password = ask(question)?;
    if std::io::stdin().is_terminal() && ask("Once more: ")? != password {
        return Err(Failed::Usage(
            "the passwords differ, nothing was changed".into(),
        ));
    }
    Ok(password)
}

/// Reads a line from stdin; on a terminal without showing it.
fn ask(question: &str) -> Result<String, Failed> {
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &hidden).map_err(Failed::system)?;
        eprint!("{question}");
        std::io::stderr().flush()?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Now, shown);
        eprintln!();
    }
    match read {
        Ok(0) => Err(Failed::Usage(
            "a password is needed; give it after the name and a colon, or on stdin".into(),
        )),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(Failed::system(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_told_apart() {
        let pair = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        assert_eq!(user("ann:a:b", None).unwrap(), pair("ann", "a:b"));
        assert_eq!(user("ann:x", Some("y".into())).unwrap(), pair("ann:x", "y"));
        assert_eq!(user("ann:", None).unwrap(), pair("ann", ""));
        assert!(user(":x", None).is_err());
    }
}
