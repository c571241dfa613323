//! Back to what a machine was.

use super::plan::{Plan, bind_steps};
use super::record::{FILE, Record};
use super::refusal::Refusal;
use super::step::Step;
use crate::host::Root;
use crate::host::pci::{Binding, PciDevice};

/// What has to be done.
///
/// # Errors
/// [`Refusal::NothingToUndo`].
pub fn undo(root: &Root) -> Result<Plan, Refusal> {
    let record = Record::read(root).ok_or_else(|| Refusal::NothingToUndo(FILE.to_owned()))?;
    let mut plan = Plan::default();
    for nic in &record.nics {
        let Some(device) = PciDevice::read(root, &nic.address) else {
            plan.notes
                .push(format!("{} is not there any more", nic.address));
            continue;
        };
        if device.binding() != Binding::Dpdk {
            plan.notes
                .push(format!("{} is not bound to vfio-pci any more", nic.address));
            continue;
        }
        match &nic.driver {
            Some(driver) => plan.steps.extend(bind_steps(&device, driver)),
            None => plan.steps.push(Step::Set {
                file: format!("/sys/bus/pci/devices/{}/driver/unbind", nic.address),
                value: nic.address.clone(),
            }),
        }
        // So that the kernel chooses the driver again, now and at the next boot.
        plan.steps.push(Step::Set {
            file: format!("/sys/bus/pci/devices/{}/driver_override", nic.address),
            value: String::new(),
        });
    }
    plan.steps
        .extend(record.pages.iter().map(|before| Step::Set {
            file: before.file.clone(),
            value: before.pages.to_string(),
        }));
    plan.steps
        .extend(record.settings.iter().map(|before| Step::Set {
            file: before.file.clone(),
            value: before.value.clone(),
        }));
    let files = record.files.iter().cloned();
    plan.steps.extend(files.map(Step::Remove));
    plan.steps.push(Step::Remove(FILE.to_owned()));
    Ok(plan)
}
