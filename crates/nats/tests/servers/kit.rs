//! The conformance kit, for what the card claims.

use posthaste_conformance::Fixture;
use posthaste_nats::Nats;
use posthaste_servers::harness::Trials;

pub(crate) fn add(trials: &mut Trials) {
    trials.kit("nats", "nats", |runtime, url| {
        Box::pin(async move {
            let one = Nats::connect(runtime.clone(), &url).await?;
            let other = Nats::connect(runtime, &url).await?;
            Ok(Fixture::new(one).peer(other))
        })
    });
}
