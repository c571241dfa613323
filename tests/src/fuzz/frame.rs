//! One frame of whatever bytes, to a director with services of every kind.

use crate::golden::director::Director;
use crate::golden::topology::mac;
use crate::golden::trace::Wire;

use super::pipeline::receive;

/// Sends the bytes as a frame, from either side.
///
/// # Panics
/// When the engine does, or when something does not hold that must.
pub fn run(data: &[u8]) {
    let mut director = Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -A -u 192.0.2.100:80 -s rr",
        "ipvsadm -a -u 192.0.2.100:80 -r 10.1.0.11 -i",
        "ipvsadm -A -t [2001:db8::100]:80 -s rr",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:8080 -m",
        "ipvsadm -A -u [2001:db8::100]:80 -s rr",
        "ipvsadm -a -u [2001:db8::100]:80 -r 10.1.0.11 -i",
    ]);
    for wire in [Wire::Cl, Wire::Rs] {
        let mut frame = data.to_vec();
        let end = frame.len().min(6);
        frame[..end].copy_from_slice(&mac(wire)[..end]);
        receive(&mut director, wire, &[frame.clone(), frame]);
    }
    director.check().unwrap();
}
