//! The answers as JSON for programs: the same values as on the socket.

use std::io::Write;

use serde::Serialize;

use super::CliError;

/// One value over several lines.
///
/// # Errors
/// Standard output does not take it.
pub fn pretty(out: &mut impl Write, value: &impl Serialize) -> Result<(), CliError> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// An array that is written while its elements arrive, one a line.
#[derive(Debug, Default)]
pub struct Array {
    elements: usize,
}

impl Array {
    /// Writes one more element.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn push(&mut self, out: &mut impl Write, value: &impl Serialize) -> Result<(), CliError> {
        write!(out, "{}", if self.elements == 0 { "[\n" } else { ",\n" })?;
        serde_json::to_writer(&mut *out, value)?;
        self.elements += 1;
        Ok(())
    }

    /// Ends the array.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn end(self, out: &mut impl Write) -> Result<(), CliError> {
        let end = if self.elements == 0 { "[]" } else { "\n]" };
        writeln!(out, "{end}")?;
        Ok(())
    }
}
