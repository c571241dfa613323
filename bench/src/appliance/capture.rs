//! Frames in a file, as `net_pcap` reads them: the classic pcap format, microseconds, Ethernet.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pollux_engine::Frame;

use crate::frame_arena::ArenaFrame;

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const SNAPSHOT_BYTES: u32 = 65_535;
const ETHERNET: u32 = 1;

/// Writes frames to a file, which is replaced.
///
/// # Errors
/// The system's.
pub fn write<'f>(path: &Path, frames: impl Iterator<Item = &'f ArenaFrame>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&MAGIC.to_ne_bytes())?;
    for half in VERSION {
        file.write_all(&half.to_ne_bytes())?;
    }
    // Time zone and accuracy are 0 in all files.
    for word in [0, 0, SNAPSHOT_BYTES, ETHERNET] {
        file.write_all(&word.to_ne_bytes())?;
    }
    for frame in frames {
        let bytes = frame.bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(SNAPSHOT_BYTES);
        // Seconds, microseconds, bytes in the file, bytes on the wire.
        for word in [0, 0, length, length] {
            file.write_all(&word.to_ne_bytes())?;
        }
        file.write_all(bytes)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_arena::ring;

    #[test]
    fn a_file_has_a_header_and_each_frame_one_more() {
        let mut ring = ring();
        for (frame, byte) in ring.iter_mut().zip([7, 8]) {
            frame.reset(60).fill(byte);
        }
        let path = std::env::temp_dir().join(format!("pollux-bench-{}.pcap", std::process::id()));
        write(&path, ring.iter().take(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 2 * (16 + 60));
        assert_eq!(bytes[..4], MAGIC.to_ne_bytes());
        assert_eq!(bytes[20..24], ETHERNET.to_ne_bytes());
        assert_eq!(bytes[32..36], 60_u32.to_ne_bytes());
        assert_eq!((bytes[40], bytes[99]), (7, 7));
        assert_eq!((bytes[116], bytes[175]), (8, 8));
    }
}
