//! The tour: one program, all three patterns, over memory, a Unix socket and TCP, on tokio and smol.
//!
//! `cargo run --release --example tour` reads `examples/data/places.tab` as a stream of letters, one
//! for each place. The office sends them into a queue (point-to-point); two riders take them, work
//! out how long the ride from London is, and announce each delivery (publish-subscribe) to a ledger
//! keeper and to whoever cares about Europe; and a clerk answers questions about single places
//! (request-reply). Nothing below `visit` knows which transport or runtime it is on.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use std::sync::Arc;

use futures::future::{try_join, try_join_all};
use posthaste::prelude::*;
use posthaste::{Ledger, Memory, SharedRuntime};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// How often the list is sent, so that there is something to measure.
const ROUNDS: usize = 48;
/// How many questions are asked, and how many of them at a time.
const QUESTIONS: usize = 4_000;
const AT_A_TIME: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let places: Arc<[String]> = include_str!("data/places.tab")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(String::from)
        .collect();
    println!(
        "{} places, {ROUNDS} letters to each: {} letters; {QUESTIONS} questions\n",
        places.len(),
        places.len() * ROUNDS
    );
    println!(
        "{:<8} {:<7} {:>12} {:>15} {:>12}   ledger",
        "runtime", "over", "letters/s", "announcements/s", "questions/s"
    );
    let folder = tempfile::tempdir()?;
    let urls = [
        "memory:".to_owned(),
        format!("unix:{}", folder.path().join("tour.sock").display()),
        "tcp://127.0.0.1:0".to_owned(),
    ];
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for url in &urls {
        tokio.block_on(visit("tokio", Tokio::new(tokio.handle().clone()).into(), url, &places))?;
        smol::block_on(visit("smol", Smol::global().into(), url, &places))?;
    }
    println!("\nEvery letter was delivered once, every question had its answer.");
    Ok(())
}

/// Sets up a broker at `url`, and the office's and the riders' connections to it; then the show.
async fn visit(
    name: &str,
    runtime: SharedRuntime,
    url: &str,
    places: &[String],
) -> Result<(), Error> {
    let broker = Memory::with_runtime(runtime.clone());
    let (office, riders, _server) = if url == "memory:" {
        let bus = Bus::with_runtime(broker.clone(), runtime.clone());
        (bus.clone(), bus, None)
    } else {
        let server = posthaste::serve(runtime.clone(), broker.clone(), url).await?;
        let url = server.endpoints()[0].to_string();
        let office = posthaste::connect(runtime.clone(), &url).await?;
        (office, posthaste::connect(runtime.clone(), &url).await?, Some(server))
    };

    let started = runtime.now();
    let announced = deliver(&office, &riders, places).await?;
    let delivering = (runtime.now() - started).as_secs_f64();

    let started = runtime.now();
    ask(&office, &riders, places).await?;
    let asking = (runtime.now() - started).as_secs_f64();

    let ledger = broker.stats().await?.ledger;
    check(&ledger, places.len() * ROUNDS)?;
    println!(
        "{name:<8} {:<7} {:>12.0} {:>15.0} {:>12.0}   {ledger}",
        url.split(':').next().unwrap_or(url),
        (places.len() * ROUNDS) as f64 / delivering,
        announced as f64 / delivering,
        QUESTIONS as f64 / asking,
    );
    Ok(())
}

/// Point-to-point and publish-subscribe: letters go out, announcements come back.
async fn deliver(office: &Bus, riders: &Bus, places: &[String]) -> Result<usize, Error> {
    let letters = places.len() * ROUNDS;
    let europe = places.iter().filter(|place| continent(place) == "Europe").count() * ROUNDS;

    // Live once they are here, so nothing that is announced from now on is missed.
    let everything = Subscription::topic("delivered.>")?.limit(letters as u64);
    let europe_only = Subscription::topic("delivered.Europe")?.limit(europe as u64);
    let keeper = office.receiver(everything).await?;
    let reader = office.receiver(europe_only).await?;

    let sending = async {
        let mut sender = office.sender(SenderOptions::new()).await?;
        let queue = Topic::new("letters")?;
        for round in 0..ROUNDS {
            for (number, place) in places.iter().enumerate() {
                let id = round * places.len() + number;
                let letter = Message::to_queue(queue.clone(), format!("{id}\t{place}"));
                sender.feed(letter).await?;
            }
        }
        let receipt = sender.flush().await?;
        assert_eq!(receipt.confirmed, letters as u64, "every letter is in the queue");
        Ok(())
    };
    let riding = try_join(ride(riders, letters / 2), ride(riders, letters - letters / 2));
    let listening = try_join(listen(keeper), listen(reader));
    let (_, (_, (all, some))) = try_join(sending, try_join(riding, listening)).await?;

    let mut numbers: Vec<usize> =
        all.iter().filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..letters), "every letter was announced exactly once");
    assert_eq!(some.len(), europe, "and those of Europe to whoever asked for them");
    Ok(all.len() + some.len())
}

/// A rider: takes `count` letters in batches, announces each, and acknowledges what is announced.
async fn ride(bus: &Bus, count: usize) -> Result<(), Error> {
    let mut letters = bus.receiver(Subscription::queue("letters")?.limit(count as u64)).await?;
    let mut announcer = bus.sender(SenderOptions::new()).await?;
    let mut batch = Vec::new();
    while letters.recv_many(&mut batch, 256).await? > 0 {
        for letter in &batch {
            let text = String::from_utf8_lossy(letter.payload());
            let (id, place) = text.split_once('\t').unwrap_or_default();
            let topic = Topic::new(format!("delivered.{}", continent(place)))?;
            let news = format!("{id}\t{:.0} hours in the saddle", hours_from_london(place));
            announcer.feed(Message::new(topic, news)).await?;
        }
        announcer.flush().await?;
        batch.drain(..).for_each(Delivery::ack);
    }
    letters.settled().await
}

/// Collects what a subscription gets until its limit ends it.
async fn listen(mut receiver: posthaste::BoxReceiver) -> Result<Vec<String>, Error> {
    let (mut lines, mut batch) = (Vec::new(), Vec::new());
    while receiver.recv_many(&mut batch, 256).await? > 0 {
        lines.extend(
            batch.drain(..).map(|news| String::from_utf8_lossy(news.payload()).into_owned()),
        );
    }
    Ok(lines)
}

/// Request-reply: a clerk answers, several askers ask at a time; and where nobody answers, the
/// asker is told at once.
async fn ask(office: &Bus, riders: &Bus, places: &[String]) -> Result<(), Error> {
    let clerk = riders.serve("distance").concurrency(AT_A_TIME).limit(QUESTIONS as u64);
    let answering = clerk.open().await?.run(|question| async move {
        let place = String::from_utf8_lossy(question.payload());
        Ok::<_, Error>(format!("{:.1}", hours_from_london(&place)))
    });
    let asker = |start: usize| async move {
        for question in (start..QUESTIONS).step_by(AT_A_TIME) {
            let place = &places[question % places.len()];
            let answer = office.request("distance", place.clone()).await?;
            assert_eq!(answer.payload(), format!("{:.1}", hours_from_london(place)).as_str());
        }
        Ok(())
    };
    try_join(answering, try_join_all((0..AT_A_TIME).map(asker))).await?;
    let nobody = office.request("the.way.to.the.moon", "").await.map(|_| ());
    assert_eq!(nobody.map_err(|error| error.kind()), Err(ErrorKind::NoResponders));
    Ok(())
}

fn check(ledger: &Ledger, letters: usize) -> Result<(), Error> {
    if ledger.is_balanced() && ledger.held == 0 && ledger.acked >= letters as u64 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("the books do not balance: {ledger}")))
}

/// `GB\t+513030-0000731\tEurope/London\tcomments`: the third column begins with the continent.
fn continent(place: &str) -> &str {
    let zone = place.split('\t').nth(2).unwrap_or_default();
    zone.split('/').next().unwrap_or_default()
}

/// How long a rider at sixteen kilometres an hour is under way, as the crow flies.
fn hours_from_london(place: &str) -> f64 {
    const LONDON: (f64, f64) = (51.5083, -0.1253);
    const EARTH_KM: f64 = 6_371.0;
    const KM_PER_HOUR: f64 = 16.0;
    let position = place.split('\t').nth(1).unwrap_or_default();
    let split = position.rfind(['+', '-']).unwrap_or(0);
    let (latitude, longitude) = position.split_at(split);
    let (from, to) = (LONDON.0.to_radians(), degrees(latitude, 2).to_radians());
    let turn = (degrees(longitude, 3) - LONDON.1).to_radians();
    // The haversine formula.
    let half =
        ((to - from) / 2.0).sin().powi(2) + from.cos() * to.cos() * (turn / 2.0).sin().powi(2);
    2.0 * EARTH_KM * half.sqrt().asin() / KM_PER_HOUR
}

/// ISO 6709: a sign, `whole` digits of degrees, then two of minutes and perhaps two of seconds.
fn degrees(text: &str, whole: usize) -> f64 {
    let part = |at: usize, length: usize| -> f64 {
        text.get(at..at + length).and_then(|digits| digits.parse().ok()).unwrap_or(0.0)
    };
    let size = part(1, whole) + part(1 + whole, 2) / 60.0 + part(3 + whole, 2) / 3_600.0;
    if text.starts_with('-') { -size } else { size }
}
