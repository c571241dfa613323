/* fopencookie */
#define _GNU_SOURCE
/* rte_dev_event_callback_register, which has had this mark since 2018. */
#define ALLOW_EXPERIMENTAL_API
#include "shim.h"

#include <assert.h>
#include <stdatomic.h>

#include <rte_eth_bond.h>
#include <rte_eth_bond_8023ad.h>

#define SAME_FIELD(field)                                                                          \
	static_assert(offsetof(struct shim_mbuf, field) == offsetof(struct rte_mbuf, field) &&         \
			      sizeof(((struct shim_mbuf *)0)->field) ==                                \
				      sizeof(((struct rte_mbuf *)0)->field),                           \
		      "this DPDK lays out struct rte_mbuf differently: " #field)

SAME_FIELD(buf_addr);
SAME_FIELD(data_off);
SAME_FIELD(refcnt);
SAME_FIELD(nb_segs);
SAME_FIELD(port);
SAME_FIELD(ol_flags);
SAME_FIELD(packet_type);
SAME_FIELD(pkt_len);
SAME_FIELD(data_len);
SAME_FIELD(vlan_tci);
SAME_FIELD(hash);
SAME_FIELD(vlan_tci_outer);
SAME_FIELD(buf_len);
SAME_FIELD(pool);

int shim_errno(void)
{
	return rte_errno;
}

/* Set before the stream exists that reads it. */
static void (*log_to)(const char *text, size_t length, int level);

static ssize_t write_message(void *cookie, const char *text, size_t length)
{
	(void)cookie;
	log_to(text, length, rte_log_cur_msg_loglevel());
	return (ssize_t)length;
}

int shim_log_to(void (*write)(const char *text, size_t length, int level))
{
	cookie_io_functions_t functions = {.write = write_message};
	FILE *stream;

	log_to = write;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}

bool shim_has_lcore(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

struct rte_mbuf *shim_mbuf_allocate(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void shim_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int shim_mbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

void shim_mbuf_ask_udp_checksum(struct rte_mbuf *mbuf, uint16_t link_bytes, uint16_t ip_bytes,
				bool is_ipv6)
{
	mbuf->tx_offload = 0;
	mbuf->l2_len = link_bytes;
	mbuf->l3_len = ip_bytes;
	mbuf->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM |
			  (is_ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
}

uint16_t shim_receive(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t shim_send(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

/* Written by DPDK's interrupt thread. Ids of ports are used once, so a flag is never cleared. */
static atomic_bool removed[RTE_MAX_ETHPORTS];

static int note_removed_port(uint16_t port, enum rte_eth_event_type event, void *argument,
			     void *result)
{
	(void)event;
	(void)argument;
	(void)result;
	if (port < RTE_MAX_ETHPORTS)
		atomic_store(&removed[port], true);
	return 0;
}

/* vfio-pci asks for the device back. */
static void note_removed_device(const char *name, enum rte_dev_event_type event, void *argument)
{
	(void)name;
	if (event == RTE_DEV_EVENT_REMOVE)
		atomic_store((atomic_bool *)argument, true);
}

int shim_watch_removal(uint16_t port, const char *name)
{
	if (port >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	/* Of a virtual device there is no such event. */
	rte_dev_event_callback_register(name, note_removed_device, &removed[port]);
	return rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RMV, note_removed_port, NULL);
}

bool shim_is_removed(uint16_t port)
{
	return port < RTE_MAX_ETHPORTS && atomic_load(&removed[port]);
}

int shim_link_nowait(uint16_t port, struct shim_link *link)
{
	struct rte_eth_link now = {0};
	int result = rte_eth_link_get_nowait(port, &now);

	link->speed_mbps = now.link_speed;
	link->up = now.link_status;
	link->full_duplex = now.link_duplex;
	return result;
}

#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define MEMBER_REMOVE rte_eth_bond_member_remove
#define MEMBER_INFO rte_eth_bond_8023ad_member_info
typedef struct rte_eth_bond_8023ad_member_info member_info;
#else
#define MEMBER_REMOVE rte_eth_bond_slave_remove
#define MEMBER_INFO rte_eth_bond_8023ad_slave_info
typedef struct rte_eth_bond_8023ad_slave_info member_info;
#endif

int shim_bond_carries(uint16_t bond, uint16_t member)
{
	struct rte_eth_link link = {0};
	member_info info;
	int result;

	if (rte_eth_bond_mode_get(bond) == BONDING_MODE_8023AD) {
		/* One whose link is down is none that LACP knows of. */
		result = MEMBER_INFO(bond, member, &info);
		return result == 0 && (info.actor_state & STATE_DISTRIBUTING) != 0;
	}
	result = rte_eth_link_get_nowait(member, &link);
	if (result < 0)
		return result;
	return link.link_status != 0 && rte_eth_bond_primary_get(bond) == member;
}

/* For drivers; the headers that declare them are not installed, the functions are the same in all releases. */
extern struct rte_eth_dev *rte_eth_dev_allocated(const char *name);
extern int rte_eth_dev_callback_process(struct rte_eth_dev *device, enum rte_eth_event_type event,
					void *argument);

void shim_link_has_changed(const char *name)
{
	struct rte_eth_dev *device = rte_eth_dev_allocated(name);

	if (device != NULL)
		rte_eth_dev_callback_process(device, RTE_ETH_EVENT_INTR_LSC, NULL);
}

int shim_bond_remove(uint16_t bond, uint16_t member)
{
	/* Not more than that it did not work is said. */
	return MEMBER_REMOVE(bond, member) == 0 ? 0 : -EINVAL;
}
