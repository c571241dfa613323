/*
 * Why polluxd refused what a kernel would not have: something that IPVS has and Pollux has not, or a data plane that does
 * not answer. The tools know error numbers only, and say "Operation not supported with IPv6" whatever it is about. polluxd
 * sends its words along as the kernel would, as an extended acknowledgement; here they are printed.
 */
#define _GNU_SOURCE
#include "reasons.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The attributes follow the refused message, which is quoted whole. Prints the one that is text. */
static void print_text(const char *bytes, size_t length)
{
	while (length >= sizeof(struct nlattr)) {
		struct nlattr attribute;

		memcpy(&attribute, bytes, sizeof(attribute));
		if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > length)
			return;
		if (attribute.nla_type == NLMSGERR_ATTR_MSG)
			dprintf(STDERR_FILENO, "pollux: %.*s\n", attribute.nla_len - NLA_HDRLEN, bytes + NLA_HDRLEN);

		size_t step = NLA_ALIGN(attribute.nla_len);

		if (step > length)
			return;
		bytes += step;
		length -= step;
	}
}

void print_reason(const char *datagram, size_t length)
{
	struct nlmsghdr header;
	struct nlmsgerr error;

	if (length < NLMSG_HDRLEN + sizeof(error))
		return;
	memcpy(&header, datagram, sizeof(header));
	memcpy(&error, datagram + NLMSG_HDRLEN, sizeof(error));

	bool is_told = header.nlmsg_type == NLMSG_ERROR && (header.nlmsg_flags & NLM_F_ACK_TLVS);
	bool is_ours = error.error == -EOPNOTSUPP || error.error == -EPROTONOSUPPORT || error.error == -EAGAIN ||
		       error.error == -EBUSY;

	if (!is_told || !is_ours || header.nlmsg_len > length || error.msg.nlmsg_len > length)
		return;

	size_t start = NLMSG_HDRLEN + sizeof(error.error) + NLMSG_ALIGN(error.msg.nlmsg_len);

	if (start < header.nlmsg_len)
		print_text(datagram + start, header.nlmsg_len - start);
}
