//! Safe types over DPDK: Eal, Mempool, Mbuf, Port, RxQueue, TxQueue.
