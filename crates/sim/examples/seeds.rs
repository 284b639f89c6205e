//! Runs a range of seeds: `seeds PROFILE FIRST LAST [SECONDS] [trace]`.
use synod_sim::{Options, Profile, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let profile = Profile::named(&args[0]).expect("a profile");
    let (first, last): (u64, u64) = (
        args[1].parse().expect("a seed"),
        args[2].parse().expect("a seed"),
    );
    let seconds = args
        .get(3)
        .map_or(60, |seconds| seconds.parse().expect("seconds"));
    let trace = args.get(4).is_some();
    for seed in first..=last {
        let started = std::time::Instant::now();
        let report = run(&Options {
            seconds,
            trace,
            ..Options::new(seed, profile)
        });
        print!("{}{report}", report.trace);
        println!("  {:?}", started.elapsed());
    }
}
