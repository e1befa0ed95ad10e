//! The `posthaste` command: runs a broker, and does from a shell what programs do.

mod args;
mod command;
mod connect;
mod durable;
mod duration;
mod exit;
mod input;
mod logging;
mod output;
mod publish;
mod record;
mod signals;
mod table;
mod take;
mod timestamp;

fn main() {
    let cli = args::parse();
    logging::install(cli.verbose);
    command::run(cli.command).exit()
}
