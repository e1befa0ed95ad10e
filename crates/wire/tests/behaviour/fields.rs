//! Tagged fields: every type comes back, and what is malformed is named.

use std::time::Duration;

use posthaste_wire::fields::{Field, Fields, Writer};

#[test]
fn every_type_comes_back_as_it_was() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes)
        .u8(1, 200)
        .bool(2, true)
        .u16(3, 60_000)
        .u32(4, 4_000_000_000)
        .u64(5, u64::MAX)
        .duration(6, Duration::from_micros(12))
        .str(7, "grüße")
        .bytes(8, &[0, 255])
        .record(9, |record| {
            record.u8(1, 1).str(2, "inner");
        });
    let fields: Vec<_> = Fields::new(&bytes).map(|field| field.unwrap()).collect();
    assert_eq!(fields.iter().map(Field::tag).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    assert_eq!(fields[0].u8(), Ok(200));
    assert_eq!(fields[1].bool(), Ok(true));
    assert_eq!(fields[2].u16(), Ok(60_000));
    assert_eq!(fields[3].u32(), Ok(4_000_000_000));
    assert_eq!(fields[4].u64(), Ok(u64::MAX));
    assert_eq!(fields[5].duration(), Ok(Duration::from_micros(12)));
    assert_eq!(fields[6].str(), Ok("grüße"));
    assert_eq!(fields[7].bytes(), [0, 255]);
    let inner: Vec<_> = fields[8].record().map(|field| field.unwrap()).collect();
    assert_eq!(inner[1].str(), Ok("inner"));
}

#[test]
fn a_value_of_another_length_is_an_error_that_names_its_tag() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).u16(77, 1).u8(78, 2).bytes(79, &[0xff]);
    let fields: Vec<_> = Fields::new(&bytes).map(|field| field.unwrap()).collect();
    let error = fields[0].u32().unwrap_err();
    assert_eq!(error.tag(), 77);
    assert_eq!(error.to_string(), "the field with tag 77 does not have its type's length");
    assert_eq!(
        fields[1].bool().unwrap_err().to_string(),
        "the field with tag 78 is neither 0 nor 1"
    );
    assert_eq!(fields[2].str().unwrap_err().to_string(), "the field with tag 79 is not UTF-8");
}

#[test]
fn a_record_that_is_cut_short_ends_with_one_error() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).u8(1, 1).str(2, "cut");
    for cut in 7..bytes.len() {
        let mut fields = Fields::new(&bytes[..cut]);
        assert!(fields.next().unwrap().is_ok());
        assert_eq!(fields.next().unwrap().unwrap_err().to_string(), "a record is cut short");
        assert!(fields.next().is_none());
    }
}

#[test]
fn a_claimed_length_is_compared_with_what_is_there() {
    let claim = [1, 0xff, 0xff, 0xff, 0xff, 0];
    assert!(Fields::new(&claim).next().unwrap().is_err());
}
