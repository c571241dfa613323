//! Frames: their bytes, their room, and that each goes back to its pool.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use dpdk_bindings::{Mbuf, MbufError, Mempool, MempoolError, MempoolSettings};
use support::{Burst, eal, frame, pool};

/// Bytes of the pools' mbufs behind the headroom of 128.
const ROOM: usize = 2048;

#[test]
fn a_fresh_mbuf_is_empty_and_has_all_its_room() {
    let pool = pool("fresh", 7);
    let mbuf = pool.allocate().unwrap();
    assert!(mbuf.data().is_empty());
    assert_eq!(mbuf.length(), 0);
    assert_eq!(mbuf.headroom(), 128);
    assert_eq!(mbuf.tailroom(), ROOM);
    assert_eq!(mbuf.port(), None);
    assert!(mbuf.is_contiguous());
    assert_eq!(usize::from(pool.frame_length_max()), ROOM);
}

#[test]
fn bytes_come_and_go_at_both_ends() {
    let pool = pool("ends", 7);
    let mut mbuf = pool.allocate().unwrap();
    mbuf.append(4).unwrap().copy_from_slice(b"cdef");
    mbuf.prepend(2).unwrap().copy_from_slice(b"ab");
    mbuf.append(2).unwrap().copy_from_slice(b"gh");
    assert_eq!(mbuf.data(), b"abcdefgh");
    assert_eq!(
        (mbuf.headroom(), mbuf.length(), mbuf.tailroom()),
        (126, 8, ROOM - 6)
    );
    mbuf.adj(3).unwrap();
    mbuf.trim(1).unwrap();
    assert_eq!(mbuf.data(), b"defg");
    assert_eq!(
        (mbuf.headroom(), mbuf.length(), mbuf.tailroom()),
        (129, 4, ROOM - 5)
    );
    mbuf.data_mut()[0] = b'D';
    assert_eq!(mbuf.data(), b"Defg");
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let pool = pool("limits", 7);
    let mut mbuf = frame(&pool, 1);
    assert_eq!(mbuf.prepend(129), Err(MbufError::NoHeadroom));
    assert_eq!(mbuf.prepend(1 << 16), Err(MbufError::NoHeadroom));
    assert_eq!(mbuf.append(ROOM - 59), Err(MbufError::NoTailroom));
    assert_eq!(mbuf.append(1 << 20), Err(MbufError::NoTailroom));
    assert_eq!(mbuf.adj(61), Err(MbufError::TooShort));
    assert_eq!(mbuf.trim(61), Err(MbufError::TooShort));
    assert_eq!(mbuf.data(), [1; 60]);
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (128, ROOM - 60));

    mbuf.prepend(128).unwrap();
    mbuf.append(ROOM - 60).unwrap();
    assert_eq!(
        (mbuf.headroom(), mbuf.length(), mbuf.tailroom()),
        (0, 128 + ROOM, 0)
    );
    assert_eq!(mbuf.data().len(), 128 + ROOM);
    mbuf.adj(128 + ROOM).unwrap();
    assert!(mbuf.data().is_empty());
}

#[test]
fn an_empty_pool_gives_nothing_until_a_frame_comes_back() {
    let pool = pool("empty", 3);
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!((held.len(), pool.in_use()), (3, 3));
    held.pop();
    assert_eq!(pool.in_use(), 2);
    assert!(pool.allocate().is_some());
    drop(held);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_burst_freed_with_one_call_is_empty() {
    let pool = pool("bulk", 63);
    let mut burst: Burst = (0..32).map(|number| frame(&pool, number)).collect();
    assert_eq!(pool.in_use(), 32);
    Mbuf::free_all(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
    Mbuf::free_all(&mut burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_panic_loses_no_frame() {
    let pool = pool("panic", 63);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _burst: Burst = (0..10).map(|number| frame(&pool, number)).collect();
        let _one = frame(&pool, 10);
        assert_eq!(pool.in_use(), 11);
        panic!("while holding frames");
    }));
    assert!(outcome.is_err());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_frame_is_freed_on_another_thread_than_it_was_taken_on() {
    let pool = pool("threads", 255);
    let frames: Vec<Mbuf> = (0..100).map(|number| frame(&pool, number)).collect();
    let freer = std::thread::spawn(move || {
        let _registered = eal().register_thread().unwrap();
        drop(frames);
    });
    freer.join().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_cached_pool_counts_what_threads_keep_at_hand_as_free() {
    let settings = MempoolSettings {
        name: String::from("cached"),
        mbufs: 1023,
        ..MempoolSettings::default()
    };
    let pool = Mempool::create(&eal(), &settings).unwrap();
    let worker = std::thread::spawn(move || {
        let _registered = eal().register_thread().unwrap();
        drop((0..300).map(|_| frame(&pool, 0)).collect::<Vec<_>>());
    });
    worker.join().unwrap();
    assert_eq!((pool.in_use(), pool.mbufs()), (0, 1023));
}

#[test]
fn pools_that_cannot_be_made_say_why() {
    let refusal =
        |settings: &MempoolSettings| Mempool::create(&eal(), settings).unwrap_err().to_string();
    let good = MempoolSettings {
        name: String::from("good"),
        mbufs: 15,
        cache: 0,
        ..Default::default()
    };
    let too_big = refusal(&MempoolSettings {
        mbufs: 1 << 20,
        name: String::from("huge"),
        ..good.clone()
    });
    assert!(
        too_big.starts_with("pool huge needs about 23")
            && too_big.ends_with(
                " MB of DPDK's memory and there is not as much: \
                 give DPDK more, or the pool fewer than 1048576 mbufs"
            ),
        "{too_big}"
    );
    assert_eq!(
        refusal(&MempoolSettings {
            name: String::new(),
            ..good.clone()
        }),
        "`` is no name for a memory pool: use 1 to 24 bytes, none of them NUL"
    );
    assert_eq!(
        refusal(&MempoolSettings {
            data_room: 128,
            ..good.clone()
        }),
        "a data room of 128 bytes is too small: it must be more than 128"
    );
    Mempool::create(&eal(), &good).unwrap();
    let twice = Mempool::create(&eal(), &good).unwrap_err();
    assert!(
        matches!(twice, MempoolError::Dpdk(ref error) if error.errno() == 17),
        "{twice}"
    );
    assert!(
        twice
            .to_string()
            .starts_with("cannot create memory pool good: File exists"),
        "{twice}"
    );
}
