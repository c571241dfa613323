//! SMTP (RFC 5321): a greeting, `HELO`, `QUIT`.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::super::outcome::Outcome;
use super::Failed;

/// Replies are not longer (RFC 5321 4.5.3.1.5 has 512 a line; a greeting may have several).
const REPLIES_BYTES_MAX: u64 = 16 << 10;

/// Asks.
pub async fn ask(mut stream: TcpStream, helo: &str) -> Result<Outcome, Failed> {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from.take(REPLIES_BYTES_MAX));
    expect(&mut from, "220").await?;
    let hello = format!("HELO {helo}\r\n");
    to.write_all(hello.as_bytes())
        .await
        .map_err(Failed::Exchange)?;
    expect(&mut from, "250").await?;
    // It has answered; how it takes the farewell does not matter.
    let _ = to.write_all(b"QUIT\r\n").await;
    let _ = line(&mut from).await;
    Ok(Outcome::good("said hello"))
}

/// A whole reply of a code.
async fn expect(from: &mut (impl AsyncBufReadExt + Unpin), code: &str) -> Result<(), Failed> {
    loop {
        let line = line(from).await?;
        if !line.starts_with(code) {
            let line = line.trim_end();
            return Err(Failed::wrong(format!("said \"{line}\" instead of {code}")));
        }
        // A minus behind the code: more lines follow.
        if !line
            .get(code.len()..)
            .is_some_and(|rest| rest.starts_with('-'))
        {
            return Ok(());
        }
    }
}

async fn line(from: &mut (impl AsyncBufReadExt + Unpin)) -> Result<String, Failed> {
    let mut line = Vec::new();
    let read = from.read_until(b'\n', &mut line).await;
    match read.map_err(Failed::Exchange)? {
        0 => Err(Failed::Closed),
        _ => Ok(String::from_utf8_lossy(&line).into_owned()),
    }
}
