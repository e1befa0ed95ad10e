//! `caps` and `conformance`.

use rustix::process::Signal;

use crate::support::{Broker, run};

#[test]
fn a_running_broker_holds_every_law_and_is_left_as_it_was() {
    for broker in [Broker::tcp(), Broker::unix()] {
        broker.run(&["send", "jobs", "x"]).done();
        let report = broker.run(&["conformance"]).done();
        assert!(report.text().contains(" passed, 0 failed, "), "{}", report.text());
        let stat = broker.stat();
        let queues = stat["queues"].as_array().unwrap();
        assert_eq!((queues.len(), &queues[0]["messages"]), (1, &1.into()));
        assert_eq!(stat["subscriptions"], 0);
    }
}

#[test]
fn a_broker_that_others_use_holds_every_law_too() {
    let broker = Broker::unix();
    let everything = broker.spawn_ready(&["sub", ">", "--overflow", "disconnect"]);
    let responder = broker.spawn_ready(&["reply", ">", "--echo"]);
    let report = broker.run(&["conformance"]).done();
    assert!(report.text().contains(" passed, 0 failed, "), "{}", report.text());
    for other in [everything, responder] {
        other.signal(Signal::TERM);
        assert_eq!(other.end().done().text(), "");
    }
}

#[test]
fn a_broker_in_the_command_itself_holds_every_law() {
    let report = run(["conformance", "memory:", "--json"]).done().json();
    assert_eq!((&report["backend"], &report["failed"]), (&"memory".into(), &0.into()));
    let cases = report["cases"].as_array().unwrap();
    let passed = cases.iter().filter(|case| case["verdict"] == "passed").count();
    assert_eq!(report["passed"], passed);
    assert!(passed > 0 && cases.iter().all(|case| case["law"].is_string()));
}

#[test]
fn the_card_names_every_capability() {
    let broker = Broker::unix();
    for arguments in [vec!["caps", "--json"], vec!["caps", &broker.url, "--json"]] {
        let card = broker.run(&arguments).done().json();
        assert_eq!(card["backend"], "memory over unix");
        assert_eq!(card["capabilities"]["topics"], "native");
        assert_eq!(card["capabilities"]["durability"], "lacking");
    }
    let card = run(["caps", "memory:"]).done();
    assert!(card.text().starts_with("memory\n"), "{}", card.text());
    assert!(card.text().contains("topics            native"), "{}", card.text());
}

#[test]
fn the_table_of_the_documentation_is_what_the_cards_say() {
    let document = include_str!("../../../../docs/engines.md");
    let table = document.split("<!-- cards -->\n").nth(1).unwrap();
    let table = table.split("<!-- end of cards -->").next().unwrap();
    assert_eq!(run(["caps", "--all"]).done().text(), table);
}
