//! TensorBoard event files: scalars only.
//!
//! A file is a row of TFRecords (u64 length, its masked CRC-32C, data, the data's masked CRC-32C), each an `Event`
//! message: `wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5`, where
//! `Summary.value = 1 {tag = 1 (string), simple_value = 2 (float)}`.
//! Source: tensorflow/core/util/event.proto and tensorflow/core/lib/io/record_writer.h.

use std::io::{self, Write};

/// Writes events to any sink. TensorBoard finds files whose name contains "tfevents".
#[derive(Debug)]
pub struct EventWriter<W: Write> {
    sink: W,
}

impl<W: Write> EventWriter<W> {
    /// Writes the version event that starts a file. `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn new(sink: W, wall_time: f64) -> io::Result<Self> {
        let mut writer = Self { sink };
        let mut event = number(1, &wall_time.to_le_bytes());
        event.extend(bytes(3, b"brain.Event:2"));
        writer.record(&event)?;
        Ok(writer)
    }

    /// Writes one value of the curve `tag`.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn scalar(&mut self, wall_time: f64, step: u64, tag: &str, value: f32) -> io::Result<()> {
        let mut scalar = bytes(1, tag.as_bytes());
        scalar.extend(number(2, &value.to_le_bytes()));
        let mut event = number(1, &wall_time.to_le_bytes());
        event.push(2 << 3);
        event.extend(varint(step));
        event.extend(bytes(5, &bytes(1, &scalar)));
        self.record(&event)
    }

    /// The sink, for flushing.
    pub fn into_inner(self) -> W {
        self.sink
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()];
        self.sink.write_all(&parts.concat())
    }
}

/// Rotated and offset, so that a checksum of data that holds checksums stays a good one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A length-delimited protobuf field.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], &varint(content.len() as u64)[..], content].concat()
}

/// A fixed-width protobuf field of 4 or 8 bytes.
fn number(field: u8, little_endian: &[u8]) -> Vec<u8> {
    let wire = if little_endian.len() == 8 { 1 } else { 5 };
    [&[field << 3 | wire], little_endian].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes were checked once with TensorBoard's own reader (tests/goldens/make_goldens.py --check).
    #[test]
    fn a_scalar_has_the_right_bytes() {
        let writer = EventWriter::new(Vec::new(), 1.5).unwrap();
        let start = writer.sink.len();
        let mut writer = writer;
        writer.scalar(2.5, 300, "a", 0.25).unwrap();
        let file = writer.into_inner();
        let event = [
            &[0x09][..],
            &2.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02],
            &[0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15],
            &0.25f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(file[start..start + 8], (event.len() as u64).to_le_bytes());
        assert_eq!(file[start + 12..file.len() - 4], event);
    }

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }
}
