//! DNS over UDP (RFC 1035 4): one question, and the code of its answer.

use std::hash::{BuildHasher, RandomState};

use pollux_api::health::dns::ResponseCode;
use pollux_api::health::probe::DnsProbe;

use super::super::outcome::Outcome;
use super::Failed;
use super::udp::refused;
use super::way::Way;

const HEADER_BYTES: usize = 12;
/// Answers over UDP are not longer unless asked for.
const ANSWER_BYTES_MAX: usize = 512;
/// The class of the Internet.
const CLASS_IN: u16 = 1;

/// A question made ready: all but its number.
#[derive(Debug)]
pub struct Query {
    question: Vec<u8>,
    rcode: ResponseCode,
}

impl Query {
    /// Makes it ready.
    pub fn new(probe: &DnsProbe) -> Self {
        let mut question = Vec::new();
        for label in probe.query.labels() {
            // At most 63 bytes.
            question.extend(u8::try_from(label.len()));
            question.extend(label.as_bytes());
        }
        question.push(0);
        question.extend(probe.record.number().to_be_bytes());
        question.extend(CLASS_IN.to_be_bytes());
        Self {
            question,
            rcode: probe.rcode,
        }
    }

    /// Asks.
    pub async fn ask(&self, way: Way) -> Result<Outcome, Failed> {
        let socket = way.datagrams().await?;
        // Another one each time, so that nobody else can answer.
        let id = RandomState::new().hash_one(0).to_be_bytes();
        let id = [id[0], id[1]];
        socket.send(&self.message(id)).await.map_err(refused)?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        loop {
            let length = socket.recv(&mut answer).await.map_err(refused)?;
            let answer = answer.get(..length).unwrap_or_default();
            // Answers to earlier questions may come now.
            if let Some(code) = self.code_of(answer, id) {
                let found = ResponseCode::from(code);
                if found == self.rcode {
                    return Ok(Outcome::good(format!("{found}")));
                }
                return Err(Failed::wrong(format!("rcode {found}")));
            }
        }
    }

    /// The message: recursion desired, one question.
    fn message(&self, id: [u8; 2]) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER_BYTES + self.question.len());
        message.extend(id);
        message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(&self.question);
        message
    }

    /// The code of an answer to this question; none if it is none. A server that cannot read the question may leave it
    /// out.
    fn code_of(&self, answer: &[u8], id: [u8; 2]) -> Option<u16> {
        let (header, rest) = answer.split_first_chunk::<HEADER_BYTES>()?;
        let [id0, id1, flags, code, questions0, questions1, ..] = *header;
        let is_answer = [id0, id1] == id && flags & 0x80 != 0;
        let repeats = match [questions0, questions1] {
            [0, 0] => true,
            [0, 1] => {
                let question = rest.get(..self.question.len())?;
                question.eq_ignore_ascii_case(&self.question)
            }
            _ => false,
        };
        (is_answer && repeats).then_some(u16::from(code & 0x0f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_as_rfc_1035_has_it_and_only_its_answer_counts() {
        let query = Query::new(&DnsProbe {
            query: "www.example.com".parse().unwrap(),
            record: "A".parse().unwrap(),
            rcode: ResponseCode::default(),
        });
        let message = query.message([0xab, 0xcd]);
        let expected = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
        assert_eq!(message, expected);
        let mut answer = message.clone();
        assert_eq!(query.code_of(&answer, [0xab, 0xcd]), None, "a question");
        (answer[2], answer[3]) = (0x81, 0x83);
        assert_eq!(query.code_of(&answer, [0xab, 0xcd]), Some(3));
        assert_eq!(query.code_of(&answer, [0xab, 0xce]), None, "to another one");
        answer[14] = b'x';
        assert_eq!(query.code_of(&answer, [0xab, 0xcd]), None, "another name");
        for length in 0..HEADER_BYTES {
            assert_eq!(query.code_of(&answer[..length], [0xab, 0xcd]), None);
        }
        let root = Query::new(&DnsProbe::default());
        assert_eq!(root.question, b"\x00\x00\x06\x00\x01");
    }
}
