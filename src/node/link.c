/* SPDX-License-Identifier: Apache-2.0 */
#include "node/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "node/subnet.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { REQUEST_MAX = 1024, ANSWER_MAX = 32768, FIRST_LINKS = 64, HOST_NUMBER = 1 };

/* A request being put together. */
struct request {
	union {
		struct nlmsghdr h;
		char bytes[REQUEST_MAX];
	};
};

static void begin(struct request *q, uint16_t type, uint16_t flags, const void *head, size_t len)
{
	memset(q, 0, sizeof(*q));
	q->h = (struct nlmsghdr){ .nlmsg_len = (uint32_t)NLMSG_LENGTH(len), .nlmsg_type = type,
				  .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	memcpy(NLMSG_DATA(&q->h), head, len);
}

/* Callers put in what is bounded: all of it fits. */
static struct rtattr *put(struct request *q, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)(q->bytes + NLMSG_ALIGN(q->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static void put_end(const struct request *q, struct rtattr *a)
{
	a->rta_len = (unsigned short)(q->bytes + q->h.nlmsg_len - (char *)a);
}

static int open_socket(struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? err_set(err, -errno, "cannot talk to the kernel about interfaces: %s", strerror(errno)) : fd;
}

/* Send Q and wait for the kernel's verdict: 0 or -errno. */
static int ask(struct request *q)
{
	AUTO_FD int fd = open_socket(NULL);
	char answer[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));

	if (fd < 0)
		return fd;
	q->h.nlmsg_flags |= NLM_F_ACK;
	if (send(fd, q->bytes, q->h.nlmsg_len, 0) < 0)
		return -errno;
	ssize_t n = recv(fd, answer, sizeof(answer), 0);
	const struct nlmsghdr *h = (const void *)answer;
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
}

/* --- what is there ---------------------------------------------------- */

struct list {
	struct link *items;
	size_t n, cap;
};

static bool has_kind(const struct rtattr *info, const char *kind)
{
	size_t left = RTA_PAYLOAD(info);

	for (const struct rtattr *a = RTA_DATA(info); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_INFO_KIND)
			return RTA_PAYLOAD(a) >= strlen(kind) && !strncmp(RTA_DATA(a), kind, RTA_PAYLOAD(a));
	return false;
}

static int list_add(struct list *l, const struct nlmsghdr *h)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);
	struct link k = { .index = m->ifi_index, .is_up = m->ifi_flags & IFF_UP };
	size_t left = IFLA_PAYLOAD(h);

	for (const struct rtattr *a = IFLA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			snprintf(k.name, sizeof(k.name), "%.*s", (int)RTA_PAYLOAD(a), (const char *)RTA_DATA(a));
		else if (a->rta_type == IFLA_IFALIAS)
			snprintf(k.alias, sizeof(k.alias), "%.*s", (int)RTA_PAYLOAD(a), (const char *)RTA_DATA(a));
		else if (a->rta_type == IFLA_LINKINFO)
			k.is_bridge = has_kind(a, "bridge");
		else if (a->rta_type == IFLA_MASTER)
			memcpy(&k.master, RTA_DATA(a), sizeof(k.master));
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : FIRST_LINKS;
		struct link *more = reallocarray(l->items, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->items = more;
		l->cap = cap;
	}
	l->items[l->n++] = k;
	return 0;
}

/* One message of several; 1: it was the last. */
static int take_answer(struct list *l, const char *answer, size_t n)
{
	for (const struct nlmsghdr *h = (const void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EPROTO;
		int r = h->nlmsg_type == RTM_NEWLINK ? list_add(l, h) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int links_read(struct link **out, size_t *n, struct err *err)
{
	const struct ifinfomsg all = { .ifi_family = AF_UNSPEC };
	char answer[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	AUTO_FD int fd = open_socket(err);
	struct list l = { .n = 0 };
	struct request q;

	if (fd < 0)
		return fd;
	begin(&q, RTM_GETLINK, NLM_F_DUMP, &all, sizeof(all));
	int r = send(fd, q.bytes, q.h.nlmsg_len, 0) < 0 ? -errno : 0;
	while (!r) {
		ssize_t len = recv(fd, answer, sizeof(answer), 0);

		r = len < 0 ? -errno : take_answer(&l, answer, (size_t)len);
	}
	if (r < 0) {
		free(l.items);
		return err_set(err, r, "cannot list the interfaces of the host: %s", strerror(-r));
	}
	*out = l.items;
	*n = l.n;
	return 0;
}

const struct link *links_find(const struct link *links, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(links[i].name, name))
			return &links[i];
	return NULL;
}

/* --- changes ---------------------------------------------------- */

int link_add_bridge(const char *name, const uint8_t mac[6], struct err *err)
{
	const struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
	struct request q;

	begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
	put(&q, IFLA_IFNAME, name, strlen(name) + 1);
	put(&q, IFLA_ADDRESS, mac, 6);
	struct rtattr *info = put(&q, IFLA_LINKINFO, NULL, 0);
	put(&q, IFLA_INFO_KIND, "bridge", sizeof("bridge") - 1);
	put_end(&q, info);
	int r = ask(&q);
	return r < 0 ? err_set(err, r, "cannot make the bridge '%s': %s", name, strerror(-r)) : 0;
}

static int set_alias(const char *name, const char *alias)
{
	const struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
	struct request q;

	begin(&q, RTM_NEWLINK, 0, &m, sizeof(m));
	put(&q, IFLA_IFNAME, name, strlen(name) + 1);
	put(&q, IFLA_IFALIAS, alias, strlen(alias));
	return ask(&q);
}

int link_add_tap(const char *name, const char *alias, struct err *err)
{
	AUTO_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL };

	if (fd < 0)
		return err_set(err, -errno, "cannot open '/dev/net/tun': %s; is the kernel module 'tun' loaded?", strerror(errno));
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_set(err, errno == EBUSY ? -EEXIST : -errno, "cannot make the tap '%s': %s", name, strerror(errno));
	/* Whose it is stands in it before it stays: a daemon that is killed in between leaves nothing. */
	int r = set_alias(name, alias);
	if (r < 0)
		return err_set(err, r, "cannot write into the tap '%s' whose it is: %s", name, strerror(-r));
	return ioctl(fd, TUNSETPERSIST, 1) < 0
		       ? err_set(err, -errno, "cannot make the tap '%s' stay: %s", name, strerror(errno))
		       : 0;
}

int link_set(int index, const char *alias, int master, struct err *err)
{
	const struct ifinfomsg m = { .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct request q;

	begin(&q, RTM_NEWLINK, 0, &m, sizeof(m));
	put(&q, IFLA_IFALIAS, alias, strlen(alias));
	put(&q, IFLA_MASTER, &master, sizeof(master));
	int r = ask(&q);
	return r < 0 ? err_set(err, r, "cannot set up interface %d: %s", index, strerror(-r)) : 0;
}

int link_delete(const char *name, struct err *err)
{
	const struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
	struct request q;

	begin(&q, RTM_DELLINK, 0, &m, sizeof(m));
	put(&q, IFLA_IFNAME, name, strlen(name) + 1);
	int r = ask(&q);
	return r < 0 && r != -ENODEV ? err_set(err, r, "cannot remove the interface '%s': %s", name, strerror(-r)) : 0;
}

int link_add_address(int index, const struct subnet *s, struct err *err)
{
	const bool is_six = s->family == AF_INET6;
	const struct ifaddrmsg m = { .ifa_family = (uint8_t)s->family, .ifa_prefixlen = (uint8_t)s->len,
				     .ifa_index = (unsigned)index, .ifa_flags = is_six ? IFA_F_NODAD : 0 };
	char text[SUBNET_TEXT_LEN];
	uint8_t addr[16];
	struct request q;

	subnet_nth(s, HOST_NUMBER, addr);
	begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	put(&q, IFA_LOCAL, addr, is_six ? 16 : 4);
	put(&q, IFA_ADDRESS, addr, is_six ? 16 : 4);
	int r = ask(&q);
	subnet_address_text(s->family, addr, text);
	return r < 0 && r != -EEXIST ? err_set(err, r, "cannot give interface %d the address '%s': %s", index, text, strerror(-r))
				     : 0;
}

bool link_is_permitted(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	return !syscall(SYS_capget, &head, caps) && caps[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN);
}
