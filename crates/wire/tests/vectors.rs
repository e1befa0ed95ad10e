//! The published test vectors hold, in both directions.

use posthaste_wire::{Frame, Header, Hello, PREFACE_LEN, Session};

mod support;

#[derive(Debug, PartialEq, Eq)]
struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    meaning: &'static str,
}

fn vectors() -> Vec<Vector> {
    read(include_str!("vectors.txt"))
}

fn read(text: &'static str) -> Vec<Vector> {
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(lines.len() % 3, 0, "each vector is three lines");
    lines
        .chunks(3)
        .map(|lines| Vector { name: lines[0], bytes: unhex(lines[1]), meaning: lines[2] })
        .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn split(bytes: &[u8]) -> (Header, &[u8]) {
    let (header, body) = bytes.split_first_chunk().expect("a header");
    let header = Header::decode(header);
    assert_eq!(header.body_len as usize, body.len(), "the header states the body's length");
    (header, body)
}

#[test]
fn every_vector_decodes_to_its_meaning() {
    for vector in vectors() {
        let (header, body) = split(&vector.bytes);
        let meaning = match Frame::decode(header, body) {
            Ok(frame) => format!("{frame:?}"),
            Err(violation) => format!("! {violation}"),
        };
        assert_eq!(meaning, vector.meaning, "{}", vector.name);
    }
}

#[test]
fn every_vector_that_is_accepted_encodes_to_its_bytes() {
    for vector in vectors() {
        let (header, body) = split(&vector.bytes);
        let Ok(frame) = Frame::decode(header, body) else {
            continue;
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(bytes, vector.bytes, "{}", vector.name);
    }
}

#[test]
fn there_is_a_vector_for_every_kind() {
    let mut kinds: Vec<u8> = vectors().iter().map(|vector| vector.bytes[4]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let known = (0x01..=0x05).chain(0x10..=0x16).chain(0x20..=0x2b).chain(0x30..=0x33);
    assert_eq!(kinds, known.chain([0x70]).collect::<Vec<u8>>());
}

#[test]
fn the_vectors_that_the_document_shows_are_among_these() {
    let document = include_str!("../../../docs/protocol.md");
    let (_, section) = document.split_once("\n## Test vectors\n").expect("a section");
    let (_, shown) = section.split_once("```text\n").expect("a block");
    let (shown, _) = shown.split_once("```").expect("the block ends");
    let (shown, all) = (read(shown), vectors());
    assert!(shown.iter().any(|vector| vector.meaning.starts_with('!')), "one that is refused");
    for vector in shown {
        assert!(all.contains(&vector), "{vector:?}");
    }
}

#[test]
fn the_vector_of_hello_states_the_default_limits() {
    let vectors = vectors();
    let hello = vectors.iter().find(|vector| vector.name == "hello").unwrap();
    let hello = Hello::decode(&hello.bytes[Header::LEN..]).unwrap();
    let config = support::config();
    assert_eq!(hello.limits.frame, config.limits.frame);
    assert_eq!(hello.limits.payload, config.limits.payload);
    assert_eq!(hello.limits.head, config.limits.head);
    assert_eq!(hello.limits.links, config.limits.links);
    assert_eq!(hello.limits.reassembly, config.limits.reassembly);
    assert_eq!(hello.heartbeat, config.heartbeat);
    assert_eq!(hello.session[15], 15);
    assert_eq!(hello.software, "example/1");
}

#[test]
fn a_client_begins_with_its_preface_and_a_hello() {
    let mut client = Session::client(support::config(), support::start());
    let bytes = support::output(&mut client);
    assert_eq!(&bytes[..PREFACE_LEN], &[0x89, b'P', b'H', b'W', b'\r', b'\n', 1, 0]);
    let (header, body) = split(&bytes[PREFACE_LEN..]);
    assert!(matches!(Frame::decode(header, body), Ok(Frame::Hello { .. })));
}
