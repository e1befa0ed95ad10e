//! Any bytes are a frame or a violation, and a frame has exactly one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthaste_wire::{Frame, Header};

fuzz_target!(|data: &[u8]| {
    let Some((header, body)) = data.split_first_chunk() else {
        return;
    };
    let header = Header { body_len: body.len() as u32, ..Header::decode(header) };
    let Ok(frame) = Frame::decode(header, body) else {
        return;
    };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(bytes[..Header::LEN], header.encode());
    assert_eq!(&bytes[Header::LEN..], body);
});
