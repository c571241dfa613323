/*
 * A connection to polluxd that looks like a netlink socket of protocol NETLINK_GENERIC. Sockets of any other kind,
 * NETLINK_ROUTE among them, are the kernel's as ever.
 *
 * The old interface of IPVS, socket options of a raw IP socket, is closed: a program that fell back to it would change the
 * services of this machine's kernel, if that has IPVS too.
 */
#define _GNU_SOURCE
#include "link.h"
#include "reasons.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* IP_VS_BASE_CTL of linux/ip_vs.h, which cannot be included together with netinet/in.h, and the last option after it. */
enum { IPVS_OPTION_FIRST = 64 + 1024 + 64, IPVS_OPTION_LAST = IPVS_OPTION_FIRST + 15 };

/* Descriptors that can be ours. Programs have few. */
enum { DESCRIPTORS = 1024 };

/* polluxd takes no longer ones: `DATAGRAM_BYTES_MAX` in control/src/daemon/ipvs_session.rs. */
enum { DATAGRAM_BYTES_MAX = 16 << 10 };

/* By descriptor: OURS and the port id that the program knows the socket by; 0 for all others. */
#define OURS ((uint64_t)1 << 32)
static _Atomic uint64_t sockets[DESCRIPTORS];

static bool is_ours(int fd)
{
	return fd >= 0 && fd < DESCRIPTORS && (atomic_load(&sockets[fd]) & OURS);
}

static bool is_ipvs_option(int level, int option)
{
	return level == IPPROTO_IP && option >= IPVS_OPTION_FIRST && option <= IPVS_OPTION_LAST;
}

/* Writes an address as the kernel does: as much of it as there is room for. */
static void put_address(struct sockaddr *to, socklen_t *length, uint32_t port)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_pid = port };
	socklen_t room = *length;

	memcpy(to, &address, room < sizeof(address) ? room : sizeof(address));
	*length = sizeof(address);
}

EXPORT int socket(int domain, int type, int protocol)
{
	REAL(socket, int, int, int, int);
	REAL(close, int, int);
	if (domain != AF_NETLINK || protocol != NETLINK_GENERIC)
		return real_socket(domain, type, protocol);

	int fd = link_open(type);

	if (fd >= DESCRIPTORS) {
		real_close(fd);
		errno = EMFILE;
		return -1;
	}
	if (fd >= 0)
		atomic_store(&sockets[fd], OURS | (uint32_t)getpid());
	return fd;
}

EXPORT int close(int fd)
{
	REAL(close, int, int);
	if (is_ours(fd))
		atomic_store(&sockets[fd], 0);
	return real_close(fd);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	REAL(bind, int, int, const struct sockaddr *, socklen_t);
	if (!is_ours(fd))
		return real_bind(fd, address, length);

	struct sockaddr_nl wanted;

	if (length < sizeof(wanted)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(&wanted, address, sizeof(wanted));
	/* No family of ours has groups to listen to. */
	if (wanted.nl_family != AF_NETLINK || wanted.nl_groups != 0) {
		errno = EINVAL;
		return -1;
	}
	if (wanted.nl_pid != 0)
		atomic_store(&sockets[fd], OURS | wanted.nl_pid);
	return 0;
}

EXPORT int getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
	REAL(getsockname, int, int, struct sockaddr *, socklen_t *);
	if (!is_ours(fd))
		return real_getsockname(fd, address, length);
	put_address(address, length, (uint32_t)atomic_load(&sockets[fd]));
	return 0;
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	REAL(getsockopt, int, int, int, int, void *, socklen_t *);
	if (is_ipvs_option(level, option)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return real_getsockopt(fd, level, option, value, length);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	REAL(setsockopt, int, int, int, int, const void *, socklen_t);
	if (is_ipvs_option(level, option)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	if (!is_ours(fd) || level != SOL_NETLINK)
		return real_setsockopt(fd, level, option, value, length);
	/* The other options ask for more detail than polluxd has to tell. Groups there are none. */
	if (option == NETLINK_ADD_MEMBERSHIP || option == NETLINK_DROP_MEMBERSHIP) {
		errno = EINVAL;
		return -1;
	}
	return 0;
}

/* Copies the parts of a datagram to one place. False when there is no room. */
static bool gather(const struct msghdr *message, char *to, size_t room, size_t *length)
{
	*length = 0;
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *part = &message->msg_iov[i];

		if (part->iov_len > room - *length)
			return false;
		memcpy(to + *length, part->iov_base, part->iov_len);
		*length += part->iov_len;
	}
	return true;
}

/*
 * A message goes out without the address (the kernel's, port id 0) and without credentials, which Unix sockets know
 * another way. The kernel answers to the port id of the socket, polluxd to the one in the message; so there it must be.
 * A connection that polluxd has closed, by its restart or because it was idle for long, is made anew.
 */
EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	REAL(sendmsg, ssize_t, int, const struct msghdr *, int);
	if (!is_ours(fd))
		return real_sendmsg(fd, message, flags);

	char datagram[DATAGRAM_BYTES_MAX];
	struct nlmsghdr header;
	struct iovec whole = { .iov_base = datagram };
	struct msghdr bare = { .msg_iov = &whole, .msg_iovlen = 1 };

	if (!gather(message, datagram, sizeof(datagram), &whole.iov_len)) {
		errno = EMSGSIZE;
		return -1;
	}
	if (whole.iov_len >= sizeof(header)) {
		memcpy(&header, datagram, sizeof(header));
		header.nlmsg_pid = (uint32_t)atomic_load(&sockets[fd]);
		memcpy(datagram, &header, sizeof(header));
	}

	ssize_t sent = real_sendmsg(fd, &bare, flags | MSG_NOSIGNAL);

	if (sent < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) && link_renew(fd))
		sent = real_sendmsg(fd, &bare, flags | MSG_NOSIGNAL);
	return sent;
}

EXPORT ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *address, socklen_t room)
{
	REAL(sendto, ssize_t, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	if (!is_ours(fd))
		return real_sendto(fd, bytes, length, flags, address, room);

	struct iovec vector = { .iov_base = (void *)bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };

	return sendmsg(fd, &message, flags);
}

/* A message comes from the kernel: port id 0. The end of the connection is an error, as netlink has no end. */
EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	REAL(recvmsg, ssize_t, int, struct msghdr *, int);
	if (!is_ours(fd))
		return real_recvmsg(fd, message, flags);

	struct msghdr bare = { .msg_iov = message->msg_iov, .msg_iovlen = message->msg_iovlen };
	ssize_t received = real_recvmsg(fd, &bare, flags);

	if (received == 0) {
		errno = ECONNRESET;
		return -1;
	}
	if (received < 0)
		return -1;
	if (message->msg_name)
		put_address(message->msg_name, &message->msg_namelen, 0);
	if (!(flags & MSG_PEEK) && bare.msg_iovlen == 1 && (size_t)received <= bare.msg_iov->iov_len)
		print_reason(bare.msg_iov->iov_base, (size_t)received);
	message->msg_controllen = 0;
	message->msg_flags = bare.msg_flags;
	return received;
}
