//! Runs one scenario: `scenario NAME MESSAGES`. Without arguments it lists them.

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program says why it failed")]
            {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let scenarios = posthaste_counts::all();
    let Some(name) = arguments.next() else {
        #[expect(clippy::print_stdout, reason = "a program prints")]
        for scenario in &scenarios {
            println!("{}", scenario.name());
        }
        return Ok(());
    };
    let messages = arguments.next().ok_or("how many messages?")?.parse()?;
    let scenario = scenarios.iter().find(|scenario| scenario.name() == name);
    let scenario = scenario.ok_or_else(|| format!("there is no scenario {name:?}"))?;
    Ok(scenario.run(messages)?)
}
