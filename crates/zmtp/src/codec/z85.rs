//! Z85, as ZeroMQ's RFC 32 has it: four bytes in five characters that are safe in source code.

const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// The text of bytes, of which there are four, eight, and so on; what is left over is left out.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 4 * 5);
    for chunk in bytes.chunks_exact(4) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        for power in (0..5).rev() {
            let digit = number / 85_u32.pow(power) % 85;
            text.push(char::from(DIGITS[usize::try_from(digit).unwrap_or_default()]));
        }
    }
    text
}

/// The bytes of a text.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(5) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 5 * 4);
    for chunk in digits.chunks_exact(5) {
        let mut number = 0_u32;
        for digit in chunk {
            let value = DIGITS.iter().position(|this| this == digit)?;
            number = number.checked_mul(85)?.checked_add(u32::try_from(value).ok()?)?;
        }
        bytes.extend(number.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        let bytes = [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B];
        assert_eq!(encode(&bytes), "HelloWorld");
        assert_eq!(decode("HelloWorld").unwrap(), bytes);
        for wrong in ["Hello World", "Hell", "#####", "Hell\""] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
