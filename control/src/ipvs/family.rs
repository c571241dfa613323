//! Generic netlink's own family, in which tools look for family `IPVS` (`net/netlink/genetlink.c`).

use netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_OP, GENL_ID_CTRL,
};
use netlink_packet_generic::ctrl::nlas::{GenlCtrlAttrs, OpAttrs};
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use rustix::io::Errno;

use super::attribute::Attributes;
use super::command::{ATTRIBUTE_MAX, Command};
use super::reply::Body;

/// The family's name.
pub const NAME: &str = "IPVS";

/// The family's version.
pub const VERSION: u8 = 1;

/// The family's number, which is the type of its messages; the kernel gives them from 17 on, as families come.
pub const ID: u16 = 32;

/// `GENL_NAMSIZ`, without the NUL.
const NAME_BYTES_MAX: usize = 15;

/// The operation needs an administrator (`GENL_ADMIN_PERM`).
const ADMINISTRATOR: u32 = 0x01;
/// The operation works without `NLM_F_DUMP`.
const ACTS: u32 = 0x02;
/// The operation lists.
const LISTS: u32 = 0x04;

/// The two families that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `nlctrl`.
    Controller,
    /// `IPVS`.
    Ipvs,
}

impl Family {
    /// Reads which family is asked for, by number or by name.
    ///
    /// # Errors
    /// `EINVAL` when that is missing, `ENOENT` when there is no such family.
    pub fn read(payload: &[u8]) -> Result<Self, Errno> {
        let attributes = Attributes::parse(payload, CTRL_ATTR_OP)?;
        if let Some(id) = attributes.u16(CTRL_ATTR_FAMILY_ID)? {
            return Self::of_id(id).ok_or(Errno::NOENT);
        }
        let name = attributes.text(CTRL_ATTR_FAMILY_NAME, NAME_BYTES_MAX)?;
        match name.ok_or(Errno::INVAL)? {
            NAME => Ok(Self::Ipvs),
            "nlctrl" => Ok(Self::Controller),
            _ => Err(Errno::NOENT),
        }
    }

    /// The family of a message type.
    pub fn of_id(id: u16) -> Option<Self> {
        match id {
            ID => Some(Self::Ipvs),
            GENL_ID_CTRL => Some(Self::Controller),
            _ => None,
        }
    }

    /// What an answer says of it.
    pub fn body(self) -> Body {
        let (name, id, version, attribute_max) = match self {
            Self::Controller => ("nlctrl", GENL_ID_CTRL, 2, CTRL_ATTR_OP),
            Self::Ipvs => (NAME, ID, VERSION, ATTRIBUTE_MAX),
        };
        Body::Family(GenlCtrl {
            cmd: GenlCtrlCmd::NewFamily,
            nlas: vec![
                GenlCtrlAttrs::FamilyName(name.to_owned()),
                GenlCtrlAttrs::FamilyId(id),
                GenlCtrlAttrs::Version(version.into()),
                GenlCtrlAttrs::HdrSize(0),
                GenlCtrlAttrs::MaxAttr(attribute_max.into()),
                GenlCtrlAttrs::Ops(self.operations()),
            ],
        })
    }

    fn operations(self) -> Vec<Vec<OpAttrs>> {
        match self {
            Self::Controller => {
                let id = u8::from(GenlCtrlCmd::GetFamily).into();
                vec![vec![OpAttrs::Id(id), OpAttrs::Flags(ACTS | LISTS)]]
            }
            Self::Ipvs => {
                let operation = |command: Command| {
                    let acts = if command.acts() { ACTS } else { 0 };
                    let lists = if command.lists() { LISTS } else { 0 };
                    vec![
                        OpAttrs::Id((command as u8).into()),
                        OpAttrs::Flags(ADMINISTRATOR | acts | lists),
                    ]
                };
                let asked = Command::ALL
                    .into_iter()
                    .filter(|command| *command != Command::SetInfo);
                asked.map(operation).collect()
            }
        }
    }
}
