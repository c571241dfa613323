//! Long answers, written piece by piece by a thread outside the loop that serves everyone else, as their client takes them: so
//! much of one is held as waits for its client, however long it is.

use std::{fmt, io};

use hyper::body::Bytes;
use tokio::sync::mpsc;

/// Bytes of a piece, and how many pieces wait for the client.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_WAITING: usize = 4;

/// Has a thread write something; its pieces come out of the receiver. One that is dropped ends the writing.
pub fn written(
    write: impl FnOnce(&mut PieceWriter) -> io::Result<()> + Send + 'static,
) -> mpsc::Receiver<Bytes> {
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut writer = PieceWriter {
            piece: Vec::with_capacity(PIECE_BYTES),
            sender,
        };
        // It fails when the client has gone: nobody is left to be told.
        let _ = write(&mut writer).and_then(|()| writer.send());
    });
    pieces
}

/// Gathers what is written into pieces and waits for the client to take them.
#[derive(Debug)]
pub struct PieceWriter {
    piece: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
}

impl PieceWriter {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.sender.blocking_send(piece.into());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() + bytes.len() > PIECE_BYTES && !self.piece.is_empty() {
            self.send()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Pieces are sent when they are full, and the last one at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Write for PieceWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        io::Write::write_all(self, text.as_bytes()).map_err(|_| fmt::Error)
    }
}
