//! The targets that decode: frames, fields, heads and records.

use bytes::Bytes;
use posthaste_core::{Heads, Message, Parts, Topic};
use posthaste_wire::fields::{FIELD_OVERHEAD, Fields, Writer};
use posthaste_wire::{Frame, Header, Hello};

use crate::weigh::weigh;

/// Any bytes are a frame or a violation, and a frame has exactly one spelling.
pub fn frame(data: &[u8]) {
    let Some((header, body)) = data.split_first_chunk() else {
        return;
    };
    let body_len = u32::try_from(body.len()).expect("no input is as long");
    let header = Header { body_len, ..Header::decode(header) };
    let Ok(frame) = weigh(data.len(), || Frame::decode(header, body)) else {
        return;
    };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(bytes[..Header::LEN], header.encode());
    assert_eq!(&bytes[Header::LEN..], body);
}

/// Any bytes are fields or an error, and what was read can be written again.
pub fn fields(data: &[u8]) {
    let mut again = Vec::new();
    for field in Fields::new(data) {
        let Ok(field) = field else { break };
        let _ = (field.u8(), field.bool(), field.u16(), field.u32(), field.u64());
        let _ = (field.duration(), field.str(), field.record().count());
        let before = again.len();
        Writer::new(&mut again).bytes(field.tag(), field.bytes());
        assert_eq!(again.len() - before, FIELD_OVERHEAD + field.bytes().len());
    }
    assert_eq!(again, data[..again.len()]);
    let _ = weigh(data.len(), || Hello::decode(data));
}

/// Any bytes as the head of a message: what is accepted can be read, and goes out as it came in.
pub fn head(data: &[u8]) {
    let Some((attributes, head)) = data.split_first() else { return };
    let head = Bytes::copy_from_slice(head);
    let parts = Parts {
        head: (&head[..]).into(),
        payload: Bytes::new(),
        attributes: *attributes,
        correlation: 1,
        deadline: None,
        count: 1,
    };
    // After another message with the same head it is the same as alone, and so it is after that.
    let mut heads = Heads::default();
    let after = [(); 2].map(|()| Message::from_parts_after(parts.clone(), &mut heads).ok());
    let alone = weigh(data.len(), || Message::from_parts(parts)).ok();
    assert!(after.iter().all(|after| *after == alone));
    let Some(message) = alone else { return };
    // A topic that was accepted is one by the rules for those that are made here.
    assert_eq!(Topic::new(message.topic().as_str()).ok(), Some(message.topic()));
    assert!(message.headers().count() <= 64);
    if let Some(reply_to) = message.reply_to() {
        assert!(Topic::new(reply_to.as_str()).is_ok());
        assert_eq!(message.reply("").map(|reply| reply.topic()), Some(reply_to));
    }
    let _ = (message.key(), message.id(), message.status(), message.priority());
    assert_eq!(message.into_parts().head, head.into());
}

/// Any bytes as the options, arguments and results that links and calls carry.
pub fn records(data: &[u8]) {
    // Each of the ten kinds of records is read, written and read again.
    weigh(data.len(), || posthaste_link::read_as_everything(data));
}
