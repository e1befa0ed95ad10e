//! Any bytes are fields or an error, and what was read can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthaste_wire::Hello;
use posthaste_wire::fields::{FIELD_OVERHEAD, Fields, Writer};

fuzz_target!(|data: &[u8]| {
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
    let _ = Hello::decode(data);
});
