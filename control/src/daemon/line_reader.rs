//! Reads one line of either socket, never more of it than it may have.

use std::io;

use pollux_api::line::LINE_BYTES_MAX;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Why there is no line.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The peer closed the connection between two lines.
    #[error("the connection is closed")]
    Closed,
    /// The peer closed the connection within a line.
    #[error("the connection was closed in the middle of a line")]
    Truncated,
    /// The line is longer than any may be.
    #[error("the line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The line is longer than it may be now.
    #[error(
        "too many large requests at once: they share a limited memory; try again when others are done"
    )]
    Busy,
    /// The operating system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads up to the next newline, which is left out. `may_grow` is asked whether the line may have that many bytes.
///
/// # Errors
/// [`ReadError`]; what was read of the line is gone then.
pub async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    mut may_grow: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, ReadError> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Err(if line.is_empty() {
                ReadError::Closed
            } else {
                ReadError::Truncated
            });
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let text = newline
            .and_then(|at| available.get(..at))
            .unwrap_or(available);
        let length = line.len().saturating_add(text.len());
        if length > LINE_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        if !may_grow(length) {
            return Err(ReadError::Busy);
        }
        line.extend_from_slice(text);
        let used = text.len() + usize::from(newline.is_some());
        reader.consume(used);
        if newline.is_some() {
            return Ok(line);
        }
    }
}
