//! Every kind of frame with everything wrong about every field of it, at every stage of a session:
//! each is answered by an end that says why, or is no harm.
#![allow(clippy::print_stdout, reason = "a failure is to name the case that it is about")]

use std::collections::BTreeMap;

use posthaste_fuzz_cases::frames::{Operator, Sample, samples};
use posthaste_fuzz_cases::scene::{Scene, Side, said};
use posthaste_wire::{Code, Event, Frame, Header};

/// What a session makes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// It ends, and tells the peer why.
    Ends,
    /// It goes on, and answers a PING.
    GoesOn,
    /// It waits for the rest of a longer frame, and until then as long as its heartbeat.
    Waits,
    /// It had ended before.
    Deaf,
}

/// The frames in what a session says, without a preface.
fn frames(mut said: &[u8]) -> Vec<Frame<'_>> {
    said = said.strip_prefix(b"\x89PHW\r\n\x01\x00").unwrap_or(said);
    let mut frames = Vec::new();
    while let Some((header, rest)) = said.split_first_chunk() {
        let header = Header::decode(header);
        let (body, rest) = rest.split_at(header.body_len as usize);
        frames.push(Frame::decode(header, body).expect("a session says what it would accept"));
        said = rest;
    }
    frames
}

fn answer(mut scene: Scene, side: Side, bytes: &[u8]) -> Answer {
    if scene.side(side).is_ended() {
        assert!(scene.hears(side, bytes).is_empty());
        assert_eq!(scene.side(side).poll_event(), None);
        return Answer::Deaf;
    }
    let _greeting = said(scene.side(side));
    let left = scene.hears(side, bytes);
    let session = scene.side(side);
    let last = std::iter::from_fn(|| session.poll_event()).last();
    if let Some(Event::Ended { code, reason, by_peer }) = last {
        assert!(session.is_ended());
        assert_ne!(code, Code::ConnectionLost);
        assert!(!reason.is_empty() || by_peer, "an end says why");
        let told = said(session);
        // Who speaks something else is told so in a line of text, if it was the one to connect.
        let is_foreign = reason.starts_with("the peer does not speak Posthaste");
        if !by_peer && !is_foreign {
            let goodbye = frames(&told).pop();
            assert_eq!(goodbye, Some(Frame::Goodbye { code, reason: &reason }));
        }
        return Answer::Ends;
    }
    assert!(!session.is_ended());
    if session.wanted() > 0 {
        assert!(left.len() <= bytes.len());
        return Answer::Waits;
    }
    assert!(left.is_empty());
    let mut ping = Vec::new();
    Frame::Ping { token: 77 }.encode(&mut ping);
    scene.hears(side, &ping);
    let told = said(scene.side(side));
    assert!(frames(&told).contains(&Frame::Pong { token: 77 }), "it still answers");
    Answer::GoesOn
}

#[test]
fn every_frame_is_in_place_before_it_is_spoiled() {
    for sample in samples() {
        for &side in sample.heard_by {
            let answered = answer(Scene::conversation(), side, &sample.bytes);
            let expected = if sample.name == "GOODBYE" { Answer::Ends } else { Answer::GoesOn };
            assert_eq!(answered, expected, "{} at the {side:?}", sample.name);
        }
    }
}

#[test]
fn whatever_is_wrong_with_a_field_is_answered_or_does_no_harm() {
    let mut answers = BTreeMap::<_, usize>::new();
    for sample in samples() {
        for (field, (name, _)) in sample.fields.iter().enumerate() {
            for operator in Operator::ALL {
                for &side in sample.heard_by {
                    println!("{} {name} {operator:?} at the {side:?}", sample.name);
                    let bytes = sample.spoiled(field, operator);
                    let answered = answer(Scene::conversation(), side, &bytes);
                    *answers.entry(answered).or_default() += 1;
                }
            }
        }
    }
    let classes: usize = answers.values().sum();
    println!("{classes} classes: {answers:?}");
    assert!(classes >= 1_000, "{classes} classes");
    assert!(answers[&Answer::Ends] * 2 > classes, "most of them are refused: {answers:?}");
}

#[test]
fn a_frame_at_the_wrong_stage_or_from_the_wrong_side_is_answered() {
    let ended = || {
        let mut scene = Scene::established();
        for side in [Side::Client, Side::Server] {
            scene.side(side).goodbye(Code::Ok, "");
            while scene.side(side).poll_event().is_some() {}
        }
        scene
    };
    let stages: [(&str, &dyn Fn() -> Scene); 5] = [
        ("before the handshake", &Scene::fresh),
        ("after the preface", &Scene::prefaced),
        ("with no links", &Scene::established),
        ("in a conversation", &Scene::conversation),
        ("after the end", &ended),
    ];
    let mut classes = 0;
    for (stage, scene) in stages {
        for Sample { name, bytes, .. } in samples() {
            for side in [Side::Client, Side::Server] {
                println!("{name} {stage} at the {side:?}");
                let answered = answer(scene(), side, &bytes);
                assert_ne!(answered, Answer::Waits, "{name} {stage}");
                classes += 1;
            }
        }
    }
    println!("{classes} classes");
}
