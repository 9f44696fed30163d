//! Bytes in hexadecimal.

/// Two digits for each byte, with a space between bytes: `e9 3d 44`.
pub fn spaced(bytes: &[u8]) -> String {
    join(bytes, " ")
}

/// Two digits for each byte: `e93d44`.
pub fn packed(bytes: &[u8]) -> String {
    join(bytes, "")
}

fn join(bytes: &[u8], separator: &str) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(spaced(&[0xe9, 0x03, 0x40]), "e9 03 40");
        assert_eq!(packed(&[0xe9, 0x03, 0x40]), "e90340");
        assert_eq!((spaced(&[]), packed(&[])), (String::new(), String::new()));
    }
}
