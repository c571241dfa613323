/*
 * What Rust cannot take from DPDK's headers by itself: functions that are inline in C, macros that
 * are expressions, and structures whose C shape differs between the DPDK releases Pollux builds
 * against (22.11, 23.11, 24.11). Nothing else belongs here.
 */
#ifndef POLLUX_SHIM_H
#define POLLUX_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_memzone.h>
#include <rte_version.h>

/*
 * The first cache line of struct rte_mbuf, which DPDK keeps as it is for the sake of its vector
 * drivers while the C declaration around it changes. shim.c asserts each offset against the
 * installed DPDK.
 */
struct shim_mbuf {
	void *buf_addr;
	uint64_t iova_or_next;
	uint16_t data_off;
	uint16_t refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;
	uint16_t data_len;
	uint16_t vlan_tci;
	uint32_t hash[2];
	uint16_t vlan_tci_outer;
	uint16_t buf_len;
	struct rte_mempool *pool;
};

/* struct rte_eth_link became a union in 24.11. */
struct shim_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
};

/* Macros that bindgen cannot evaluate. */
static const uint64_t SHIM_RSS_TYPES =
	RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
/* What is added to them for a hash over one end of a flow only. */
static const uint64_t SHIM_RSS_SOURCE_ONLY = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L4_SRC_ONLY;
static const uint64_t SHIM_RSS_DESTINATION_ONLY =
	RTE_ETH_RSS_L3_DST_ONLY | RTE_ETH_RSS_L4_DST_ONLY;
static const uint32_t SHIM_RX_MODE_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t SHIM_RX_MODE_RSS = RTE_ETH_MQ_RX_RSS;
static const uint64_t SHIM_RX_IPV4_CHECKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RX_VLAN_FILTER = RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
static const uint64_t SHIM_RX_TCP_CHECKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_RX_UDP_CHECKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_MBUF_IPV4_CHECKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_MBUF_IPV4_CHECKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_TX_IPV4_CHECKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TX_TCP_CHECKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_TX_UDP_CHECKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint32_t SHIM_SPEED_UNKNOWN = RTE_ETH_SPEED_NUM_UNKNOWN;
static const uint16_t SHIM_MBUF_PORT_INVALID = RTE_MBUF_PORT_INVALID;
static const uint32_t SHIM_POOL_PACKED = RTE_MEMPOOL_F_NO_IOVA_CONTIG;
static const uint32_t SHIM_POOL_ALIGN = RTE_MEMPOOL_ALIGN;
/* Whether net_bonding calls its devices members (since 23.11) or slaves. */
static const uint32_t SHIM_BOND_HAS_MEMBERS =
	RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0) ? 1 : 0;
static const uint32_t SHIM_LOG_ERR = RTE_LOG_ERR;
static const uint32_t SHIM_LOG_WARNING = RTE_LOG_WARNING;
static const uint32_t SHIM_LOG_INFO = RTE_LOG_INFO;

/* rte_errno of the calling thread. */
int shim_errno(void);

/*
 * Sends DPDK's log to a function, which gets the text and the level of the message. It may be
 * called on any thread and must not log through DPDK.
 */
int shim_log_to(void (*write)(const char *text, size_t length, int level));

/* Whether the calling thread has a core number of EAL. */
bool shim_has_lcore(void);

struct rte_mbuf *shim_mbuf_allocate(struct rte_mempool *pool);
void shim_mbuf_free(struct rte_mbuf *mbuf);
int shim_mbuf_linearize(struct rte_mbuf *mbuf);

/*
 * Asks the device that sends the frame for the checksum of a UDP datagram behind so many bytes of
 * link and IP header. Its field holds the sum of the pseudo header.
 */
void shim_mbuf_ask_udp_checksum(struct rte_mbuf *mbuf, uint16_t link_bytes, uint16_t ip_bytes,
				bool is_ipv6);

uint16_t shim_receive(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shim_send(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/*
 * From now on shim_is_removed tells whether the device of this name has been pulled out, by either
 * of the two events by which DPDK says so. Returns what the registration of the first says.
 */
int shim_watch_removal(uint16_t port, const char *name);
bool shim_is_removed(uint16_t port);

int shim_link_nowait(uint16_t port, struct shim_link *link);

/*
 * Of bonds and their members, which were called slaves before 23.11. Whether frames go over a
 * member now: over that of an active-backup bond which carries all, or over one of those that
 * LACP's partner agreed to. Negative: -errno.
 */
int shim_bond_carries(uint16_t bond, uint16_t member);
int shim_bond_remove(uint16_t bond, uint16_t member);

/*
 * Raises the event by which a driver says that a device's link has changed, for those that say they
 * do and do not: a bond learns of it by no other way.
 */
void shim_link_has_changed(const char *name);

#endif
