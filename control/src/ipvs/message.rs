//! The messages of a datagram, and the datagrams of an answer (RFC 3549; `netlink_rcv_skb` and `netlink_dump` in Linux).
//!
//! Where the kernel is silent about a message that it cannot read, this answers `EINVAL`: whoever speaks to Pollux
//! instead of a kernel shall not wait for ever.

use std::fmt::Debug;
use std::num::NonZeroI32;

use netlink_packet_core::{
    DoneMessage, Emitable, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_MULTIPART,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    Parseable as _,
};
use netlink_packet_generic::{GenlFamily, GenlMessage};

use super::attribute::Attribute;
use super::family;
use super::refusal::Refusal;
use super::reply::{Body, IpvsBody, Reply};

/// Messages of a list share datagrams up to this size: libnl's buffer holds it at once.
pub const DATAGRAM_BYTES: usize = 8 << 10;

/// `NLMSGERR_ATTR_MSG`: the reason of an error, for people.
const EXTENDED_TEXT: u16 = 1;

/// `NLMSG_HDRLEN`.
const HEADER_BYTES: usize = 16;

/// A message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header; zeros for what the datagram was too short for.
    pub header: NetlinkHeader,
    /// All of it, header first.
    pub bytes: &'a [u8],
}

/// The messages of a datagram, in order.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of this datagram.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    /// A message, or the rest of the datagram when that is none.
    type Item = Result<Message<'a>, Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        if bytes.is_empty() {
            return None;
        }
        let header_of = |bytes: &&'a [u8]| NetlinkHeader::parse(&NetlinkBuffer::new(bytes)).ok();
        if NetlinkBuffer::new_checked(bytes).is_err() {
            let whole = bytes.len() >= HEADER_BYTES;
            let header = whole.then(|| header_of(&bytes)).flatten();
            return Some(Err(Message {
                header: header.unwrap_or_default(),
                bytes,
            }));
        }
        let header = header_of(&bytes).unwrap_or_default();
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let next = length.next_multiple_of(4);
        self.rest = bytes.get(next..).unwrap_or_default();
        let bytes = bytes.get(..length).unwrap_or_default();
        Some(Ok(Message { header, bytes }))
    }
}

impl<'a> Message<'a> {
    /// What comes after the header.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Whether a flag (or any of several) is set in the header.
    pub fn has(&self, flags: u16) -> bool {
        self.header.flags & flags != 0
    }

    /// The datagrams that answer it: what was asked for, or an error, or an acknowledgement if one is wanted.
    pub fn answer(&self, result: Result<&Reply, &Refusal>) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        match result {
            Err(refusal) => return vec![self.refusal(refusal)],
            Ok(Reply::Many(bodies)) => {
                self.list(bodies, &mut datagrams);
                return datagrams;
            }
            Ok(Reply::One(body)) => datagrams.push(self.body(body, 0)),
            Ok(Reply::Done) => {}
        }
        if self.has(NLM_F_ACK) {
            datagrams.push(self.acknowledgement());
        }
        datagrams
    }

    /// All is well: error 0, with no more than the header of the message it is about.
    pub fn acknowledgement(&self) -> Vec<u8> {
        let header = self.bytes.get(..HEADER_BYTES).unwrap_or(self.bytes);
        self.error(NLM_F_CAPPED, None, header.to_vec())
    }

    /// A negative error number with the message it is about, and the reason, if there is one, as an extended
    /// acknowledgement has it.
    fn refusal(&self, refusal: &Refusal) -> Vec<u8> {
        let code = NonZeroI32::new(-refusal.errno.raw_os_error());
        let mut quoted = self.bytes.to_vec();
        // Who reads the reason finds it by the length in the quoted header, which a broken message may lie about.
        let is_whole = usize::try_from(self.header.length) == Ok(quoted.len());
        let Some(reason) = refusal.reason.as_deref().filter(|_| is_whole) else {
            return self.error(0, code, quoted);
        };
        quoted.resize(quoted.len().next_multiple_of(4), 0);
        let reason = [Attribute::text(EXTENDED_TEXT, reason)];
        let start = quoted.len();
        quoted.resize(start + reason.as_slice().buffer_len(), 0);
        reason
            .as_slice()
            .emit(quoted.get_mut(start..).unwrap_or_default());
        self.error(NLM_F_ACK_TLVS, code, quoted)
    }

    fn error(&self, flags: u16, code: Option<NonZeroI32>, mut quoted: Vec<u8>) -> Vec<u8> {
        // The receiver reads a header there.
        quoted.resize(quoted.len().max(HEADER_BYTES), 0);
        let mut error = ErrorMessage::default();
        error.code = code;
        error.header = quoted;
        self.emit(flags, NetlinkPayload::<GenlMessage<IpvsBody>>::Error(error))
    }

    fn list(&self, bodies: &[Body], datagrams: &mut Vec<Vec<u8>>) {
        let mut datagram = Vec::new();
        let done = || {
            let payload = NetlinkPayload::<GenlMessage<IpvsBody>>::Done(DoneMessage::default());
            self.emit(NLM_F_MULTIPART, payload)
        };
        let messages = bodies.iter().map(|body| self.body(body, NLM_F_MULTIPART));
        for message in messages.chain(std::iter::once_with(done)) {
            if !datagram.is_empty() && datagram.len() + message.len() > DATAGRAM_BYTES {
                datagrams.push(std::mem::take(&mut datagram));
            }
            datagram.extend(message);
        }
        datagrams.push(datagram);
    }

    fn body(&self, body: &Body, flags: u16) -> Vec<u8> {
        match body {
            Body::Family(body) => self.generic(flags, body.clone(), 0),
            Body::Ipvs(body) => self.generic(flags, body.clone(), family::ID),
        }
    }

    fn generic<F: GenlFamily + Emitable + Debug>(
        &self,
        flags: u16,
        payload: F,
        family: u16,
    ) -> Vec<u8> {
        let mut message = GenlMessage::from_payload(payload);
        message.set_resolved_family_id(family);
        self.emit(flags, NetlinkPayload::InnerMessage(message))
    }

    /// A message to who sent this one.
    fn emit<I: NetlinkSerializable>(&self, flags: u16, payload: NetlinkPayload<I>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.header.sequence_number;
        header.port_number = self.header.port_number;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let length = message.buffer_len();
        let mut bytes = vec![0; length.next_multiple_of(4)];
        message.serialize(bytes.get_mut(..length).unwrap_or_default());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::ipvs::attribute::Attributes;
    use crate::ipvs::command::Command;

    fn datagram(lengths: &[(u32, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, (told, real)) in lengths.iter().enumerate() {
            let mut message = vec![0; *real];
            let header = [told.to_ne_bytes(), [0; 4], (sequence as u32).to_ne_bytes()].concat();
            let shown = header.len().min(*real);
            message[..shown].copy_from_slice(&header[..shown]);
            bytes.extend(message);
        }
        bytes
    }

    #[test]
    fn a_datagram_is_split_and_its_broken_end_is_one() {
        let bytes = datagram(&[(18, 20), (16, 16), (40, 20)]);
        let read: Vec<_> = Messages::new(&bytes)
            .map(|message| {
                let told = message.map(|it| it.payload().len());
                told.map_err(|it| (it.header.sequence_number, it.bytes.len()))
            })
            .collect();
        assert_eq!(read, [Ok(2), Ok(0), Err((2, 20))]);
        let short = Messages::new(&[1, 2, 3]).next().unwrap().unwrap_err();
        assert_eq!(short.header, NetlinkHeader::default());
    }

    #[test]
    fn an_answer_goes_to_who_asked_and_a_list_fills_datagrams() {
        let mut asked = Message {
            header: NetlinkHeader::default(),
            bytes: &[0; 20],
        };
        asked.header.sequence_number = 7;
        asked.header.port_number = 9;
        let body = Body::Ipvs(IpvsBody {
            command: Command::NewDest,
            attributes: vec![Attribute::bytes(2, vec![0; 300])],
        });
        let list = Reply::Many(vec![body; 100]);
        let datagrams = asked.answer(Ok(&list));
        assert_eq!(datagrams.len(), 4);
        let messages: Vec<_> = datagrams
            .iter()
            .inspect(|datagram| assert!(datagram.len() <= DATAGRAM_BYTES))
            .flat_map(|datagram| Messages::new(datagram))
            .map(Result::unwrap)
            .collect();
        assert_eq!(messages.len(), 101);
        for message in &messages {
            assert_eq!(message.header.sequence_number, 7);
            assert_eq!(message.header.port_number, 9);
            assert!(message.has(NLM_F_MULTIPART));
        }
        let (done, listed) = messages.split_last().unwrap();
        assert_eq!(done.header.message_type, 3);
        assert!(listed.iter().all(|it| it.header.message_type == family::ID));
    }

    #[test]
    fn an_error_quotes_the_message_and_an_acknowledgement_its_header() {
        let mut asked = Message {
            header: NetlinkHeader::default(),
            bytes: &[5; 20],
        };
        let error = asked.answer(Err(&Errno::EXIST.into())).remove(0);
        assert_eq!(error[16..20], (-17_i32).to_ne_bytes());
        assert_eq!(error.len(), 16 + 4 + 20);
        let why = Refusal::not_yet("persistence");
        let lies = asked.answer(Err(&why)).remove(0);
        assert_eq!(lies.len(), 16 + 4 + 20, "no reason where it is not found");
        asked.header.length = 20;
        let refusal = asked.answer(Err(&why)).remove(0);
        assert_eq!(refusal[16..20], (-95_i32).to_ne_bytes());
        let reason = Attributes::parse(&refusal[40..], 1).unwrap();
        assert_eq!(
            reason.text(EXTENDED_TEXT, 100),
            Ok(Some("persistence: not supported yet"))
        );
        assert!(asked.answer(Ok(&Reply::Done)).is_empty());
        asked.header.flags = NLM_F_ACK;
        let acknowledgement = asked.answer(Ok(&Reply::Done)).remove(0);
        assert_eq!(acknowledgement[16..20], [0; 4]);
        assert_eq!(acknowledgement.len(), 16 + 4 + 16);
    }
}
