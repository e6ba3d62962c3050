/* SPDX-License-Identifier: Apache-2.0 */
/* Forward texts, and the backends against the real thing: passt and the kernel's tap. What
 * the host does not permit or have is skipped. */
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "net/keeper.h"
#include "test.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/loop.h"

/* ---- forwards ---- */

TEST(forwards_are_parsed)
{
	static const struct { const char *text; struct net_forward f; } good[] = {
		{ "tcp:2222:22", { false, "", 2222, 22 } },
		{ "udp:53:5353", { true, "", 53, 5353 } },
		{ "tcp:127.0.0.1:2222:22", { false, "127.0.0.1", 2222, 22 } },
		{ "tcp:[::1]:65535:1", { false, "::1", 65535, 1 } },
		{ "tcp::80:80", { false, "", 80, 80 } },
	};

	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		struct net_forward f;

		CHECK_EQ(net_forward_parse(&f, good[i].text, NULL), 0);
		CHECK_EQ(f.is_udp, good[i].f.is_udp);
		CHECK_STR(f.host_addr, good[i].f.host_addr);
		CHECK_EQ(f.host_port, good[i].f.host_port);
		CHECK_EQ(f.guest_port, good[i].f.guest_port);
	}
}

TEST(forwards_without_sense_are_refused_with_a_sentence)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "", "is not like" }, { "tcp", "is not like" }, { "tcp:22", "is not like" },
		{ "sctp:1:2", "tcp or udp" }, { ":1:2", "tcp or udp" },
		{ "tcp:0:22", "host port '0'" }, { "tcp:65536:22", "host port" }, { "tcp:22:", "guest port ''" },
		{ "tcp:22:x", "guest port 'x'" }, { "tcp:-1:22", "host port" },
		{ "tcp:localhost:1:2", "not numeric" }, { "tcp:::1:1:2", "not numeric" },
		{ "tcp:[::1:1:2", "not numeric" }, { "tcp:[127.0.0.1]:1:2", "not numeric" },
		{ "tcp:1.2.3.4.5:1:2", "not numeric" },
		{ "tcp:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1:2",
		  "too long" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct net_forward f = { .host_port = 7 };
		struct err err = ERR_INIT;

		CHECK_EQ(net_forward_parse(&f, bad[i].text, &err), -EINVAL);
		CHECK_HAS(err.msg, bad[i].says);
		CHECK_EQ(f.host_port, 7);
	}
}

/* ---- a client that keeps the last frame of a kind ---- */

struct peer {
	struct net_client c;
	bool is_busy;
	unsigned n_frames, n_writable;
	uint16_t wants_type;            /* EtherType to keep; 0: any */
	uint8_t frame[NET_FRAME_MAX];
	size_t len;                     /* 0: none yet */
};

static bool peer_can(struct net_client *c)
{
	return !container_of(c, struct peer, c)->is_busy;
}

static void peer_receive(struct net_client *c, const uint8_t *frame, size_t len)
{
	struct peer *p = container_of(c, struct peer, c);

	p->n_frames++;
	if (p->len || (p->wants_type && get_be16(frame + 12) != p->wants_type))
		return;
	memcpy(p->frame, frame, len);
	p->len = len;
}

static void peer_writable(struct net_client *c)
{
	container_of(c, struct peer, c)->n_writable++;
}

static struct peer peer = { .c = { peer_can, peer_receive, peer_writable } };

static bool wait_frame(struct loop *l, int ms)
{
	for (uint64_t end = loop_now_ns() + (uint64_t)ms * 1000000; !peer.len && loop_now_ns() < end;)
		loop_run_once(l, 50);
	return peer.len != 0;
}

static int send_bytes(struct net *n, const void *p, size_t len)
{
	struct iovec v[2] = { { (void *)(uintptr_t)p, 10 }, { (uint8_t *)(uintptr_t)p + 10, len - 10 } };

	return net_send(n, v, 2);
}

TEST(an_unknown_backend_is_refused_with_a_sentence)
{
	struct net_options o = { .kind = "vde", .fd = -1 };
	struct err err = ERR_INIT;
	struct net *n;

	CHECK_EQ(net_open(&n, NULL, &peer.c, &o, &err), -EINVAL);
	CHECK_HAS(err.msg, "user, tap and none");
}

TEST(none_swallows_frames)
{
	struct net_options o = { .kind = "none", .fd = -1, .wants_vnet_hdr = true };
	uint8_t frame[60] = { 0 };
	struct net *n;

	CHECK_EQ(net_open(&n, NULL, &peer.c, &o, NULL), 0);
	CHECK(!net_has_vnet_hdr(n));
	CHECK_EQ(send_bytes(n, frame, 60), 0);
	net_rx_resume(n);
	net_set_offload(n, 1);
	net_close(n);
}

/* ---- passt ---- */

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static bool has_passt(void)
{
	return access("/usr/bin/passt", X_OK) == 0;
}

/* Ask who has TARGET. */
static void send_arp(struct net *n, uint32_t own, uint32_t target)
{
	uint8_t f[42] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	memcpy(f + 6, guest_mac, 6);
	memcpy(f + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
	memcpy(f + 22, guest_mac, 6);
	put_be32(f + 28, own);
	put_be32(f + 38, target);
	CHECK_EQ(send_bytes(n, f, sizeof(f)), 0);
}

/* The host's address and router, which passt gives to the guest; SKIPs without. */
static void host_route(uint32_t *own, uint32_t *router)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(9) };
	char line[256], name[32];
	socklen_t len = sizeof(a);
	unsigned dst, gw = 0;
	FILE *f = fopen("/proc/net/route", "r");
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%31s %x %x", name, &dst, &gw) == 3 && dst == 0 && gw)
			break;
	if (!gw)
		SKIP("the host has no default route");
	a.sin_addr.s_addr = gw;
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 || getsockname(s, (struct sockaddr *)&a, &len) < 0)
		SKIP("the host has no route to its router");
	*own = ntohl(a.sin_addr.s_addr);
	*router = ntohl(gw);
	close(s);
}

static struct net *open_user(struct loop **l, const struct net_forward *f, unsigned n)
{
	struct net_options o = { .kind = "user", .fd = -1, .forward = f, .n_forward = n };
	struct err err = ERR_INIT;
	struct net *net = NULL;

	if (!has_passt())
		SKIP("passt is not installed");
	CHECK_EQ(loop_new(l, NULL), 0);
	if (net_open(&net, *l, &peer.c, &o, &err) < 0)
		FAIL("%s", err.msg);
	return net;
}

TEST(passt_answers_arp)
{
	uint32_t own, router;
	struct loop *l;
	struct net *n = open_user(&l, NULL, 0);

	host_route(&own, &router);
	peer.wants_type = 0x806;
	send_arp(n, own, router);
	CHECK(wait_frame(l, 3000));
	CHECK_MEM(peer.frame, guest_mac, 6);
	CHECK_EQ(get_be16(peer.frame + 20), 2); /* a reply */
	CHECK_EQ(get_be32(peer.frame + 28), router);
	net_close(n);
	loop_free(l);
}

TEST(a_busy_client_holds_passt_back_and_gets_the_frame_later)
{
	uint32_t own, router;
	struct loop *l;
	struct net *n = open_user(&l, NULL, 0);

	host_route(&own, &router);
	peer.is_busy = true;
	peer.wants_type = 0x806;
	send_arp(n, own, router);
	CHECK(!wait_frame(l, 300));
	CHECK_EQ(peer.n_frames, 0);
	peer.is_busy = false;
	net_rx_resume(n);
	CHECK_EQ(peer.n_frames, 0);             /* not from inside the call */
	CHECK(wait_frame(l, 3000));
	net_close(n);
	loop_free(l);
}

static uint16_t free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	CHECK_EQ(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_EQ(getsockname(s, (struct sockaddr *)&a, &len), 0);
	close(s);
	return ntohs(a.sin_port);
}

TEST(a_forwarded_connection_reaches_the_guest_as_a_syn)
{
	struct net_forward f[2] = { { false, "127.0.0.1", free_port(), 22 }, { true, "", free_port(), 53 } };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint32_t own, router;
	struct loop *l;
	struct net *n = open_user(&l, f, 2);

	host_route(&own, &router);
	/* passt learns the guest's MAC address from its first frame */
	peer.wants_type = 0x806;
	send_arp(n, own, router);
	CHECK(wait_frame(l, 3000));
	peer.len = 0;
	peer.wants_type = 0x800;

	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	a.sin_port = htons(f[0].host_port);
	CHECK(connect(s, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS);
	CHECK(wait_frame(l, 3000));
	CHECK_MEM(peer.frame, guest_mac, 6);
	CHECK_EQ(peer.frame[23], 6);            /* TCP */
	CHECK_EQ(get_be16(peer.frame + 36), 22);
	CHECK_EQ(peer.frame[47], 2);            /* SYN */
	close(s);
	net_close(n);
	loop_free(l);
}

TEST(a_taken_port_is_reported_as_such)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct net_forward f = { false, "127.0.0.1", free_port(), 22 };
	struct net_options o = { .kind = "user", .fd = -1, .forward = &f, .n_forward = 1 };
	struct err err = ERR_INIT;
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct loop *l;
	struct net *n;

	if (!has_passt())
		SKIP("passt is not installed");
	a.sin_port = htons(f.host_port);
	CHECK_EQ(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_EQ(listen(s, 1), 0);
	CHECK_EQ(loop_new(&l, NULL), 0);
	CHECK_EQ(net_open(&n, l, &peer.c, &o, &err), -EADDRINUSE);
	CHECK_HAS(err.msg, "taken by another program");
	loop_free(l);
}

TEST(a_host_without_passt_says_what_to_install)
{
	struct net_options o = { .kind = "user", .fd = -1 };
	struct err err = ERR_INIT;
	struct loop *l;
	struct net *n;

	CHECK_EQ(loop_new(&l, NULL), 0);
	setenv("PATH", "/nonexistent", 1);
	CHECK_EQ(net_open(&n, l, &peer.c, &o, &err), -ENOENT);
	CHECK_HAS(err.msg, "install the package 'passt'");
	loop_free(l);
}

/* The child that is passt: our only one. */
static pid_t child_of_ours(void)
{
	char path[64];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "r");
	if (!f || fscanf(f, "%d", &pid) != 1)
		SKIP("the host kernel does not list children");
	fclose(f);
	return pid;
}

TEST(passt_is_started_again_when_it_dies_and_ends_with_us)
{
	uint32_t own, router;
	struct loop *l;
	struct net *n = open_user(&l, NULL, 0);
	pid_t pid = child_of_ours();

	host_route(&own, &router);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	for (uint64_t end = loop_now_ns() + 200000000; loop_now_ns() < end;)
		loop_run_once(l, 50);
	uint8_t frame[60] = { 0 };

	CHECK_EQ(send_bytes(n, frame, 60), -EPIPE);
	for (uint64_t end = loop_now_ns() + 1500000000; loop_now_ns() < end;)
		loop_run_once(l, 50);
	peer.wants_type = 0x806;
	send_arp(n, own, router);
	CHECK(wait_frame(l, 3000));
	pid = child_of_ours();
	net_close(n);
	CHECK_EQ(kill(pid, 0), -1);
	loop_free(l);
}

/* With a keeper, or 0. */
static struct net *open_kept(struct loop **l, int keeper)
{
	struct net_options o = { .kind = "user", .fd = -1, .keeper = keeper };
	struct err err = ERR_INIT;
	struct net *net = NULL;

	CHECK_EQ(loop_new(l, NULL), 0);
	if (net_open(&net, *l, &peer.c, &o, &err) < 0)
		FAIL("%s", err.msg);
	return net;
}

static void keep_one(struct net_keeper *k)
{
	static const struct net_forward none;
	const struct net_forward *list[] = { NULL, &none };

	if (!has_passt())
		SKIP("passt is not installed");
	CHECK_EQ(net_keeper_start(k, list, (const unsigned[]){ 0, 0 }, 2, NULL, NULL), 0);
	CHECK_EQ(k->fd[0], -1);
	CHECK(k->fd[1] >= 0);
}

/* Run L for MS. */
static void run_for(struct loop *l, unsigned ms)
{
	for (uint64_t end = loop_now_ns() + ms * 1000000ull; loop_now_ns() < end;)
		loop_run_once(l, 50);
}

TEST(the_keeper_starts_passt_again_for_who_cannot)
{
	uint32_t own, router;
	struct net_keeper k;
	struct loop *l;

	host_route(&own, &router);
	keep_one(&k);
	struct net *n = open_kept(&l, k.fd[1]);
	char path[64];

	net_keeper_fini(&k);                    /* the backend has its own */
	setenv("PATH", "/nonexistent", 1);
	peer.wants_type = 0x806;
	for (int i = 0; i < 2; i++) {
		int fd = net_fd(n);

		CHECK(fd >= 0);
		CHECK_EQ(shutdown(fd, SHUT_RDWR), 0);   /* passt ends */
		for (int j = 0; j < 100 && net_fd(n) >= 0; j++)
			run_for(l, 100);
		for (int j = 0; j < 200 && net_fd(n) < 0; j++)
			run_for(l, 100);
		CHECK(net_fd(n) >= 0);
		peer.len = 0;
		send_arp(n, own, router);
		CHECK(wait_frame(l, 5000));
	}
	/* Nobody needs it any more: it ends by itself. */
	net_close(n);
	loop_free(l);
	snprintf(path, sizeof(path), "/proc/%d", child_of_ours());
	for (int i = 0; i < 100 && waitpid(-1, NULL, WNOHANG) == 0; i++)
		usleep(50000);
	CHECK(access(path, F_OK) < 0);
}

TEST(a_keeper_says_why_it_cannot)
{
	struct err err = ERR_INIT;
	struct net_keeper k;

	setenv("PATH", "/nonexistent", 1);
	keep_one(&k);
	CHECK_EQ(net_keeper_answer(k.fd[1], &err), -EPIPE);     /* nobody has asked */
	CHECK_EQ(net_keeper_ask(k.fd[1]), 0);
	struct pollfd p = { .fd = k.fd[1], .events = POLLIN };

	CHECK_EQ(poll(&p, 1, 30000), 1);
	err = (struct err)ERR_INIT;
	CHECK_EQ(net_keeper_answer(k.fd[1], &err), -ENOENT);
	CHECK_HAS(err.msg, "not installed");
	net_keeper_fini(&k);
}

/* As the jail does it. */
static void forbid_kill(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kill, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(f), f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		SKIP("the kernel has no system-call filter");
}

TEST(a_passt_that_others_hold_does_not_hold_up_who_may_not_kill_it)
{
	struct loop *l;
	struct net *n = open_user(&l, NULL, 0);
	int other = dup(net_fd(n));             /* so it does not end by itself */
	uint64_t begin = loop_now_ns();

	forbid_kill();
	net_close(n);
	CHECK(loop_now_ns() - begin < 60000000000ull);
	close(other);
	loop_free(l);
}

TEST(a_flood_of_frames_meets_back_pressure_not_loss_of_sync)
{
	static uint8_t frame[9000] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint32_t own, router;
	struct loop *l;
	struct net *n = open_user(&l, NULL, 0);
	pid_t pid = child_of_ours();
	unsigned i = 0;
	int r = 0;

	host_route(&own, &router);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, 0x88b5);           /* an EtherType for experiments: passt ignores it */
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	for (; i < 10000 && !r; i++)
		r = send_bytes(n, frame, sizeof(frame));
	CHECK_EQ(r, -EAGAIN);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	for (int k = 0; k < 100 && !peer.n_writable; k++)
		loop_run_once(l, 50);
	CHECK_EQ(peer.n_writable, 1);
	peer.wants_type = 0x806;
	for (int k = 0; k < 20 && (r = net_send(n, &(struct iovec){ frame, 60 }, 1)) == -EAGAIN; k++)
		loop_run_once(l, 50);
	CHECK_EQ(r, 0);
	send_arp(n, own, router);
	CHECK(wait_frame(l, 3000));
	net_close(n);
	loop_free(l);
}

/* ---- tap ---- */

/* A network namespace of our own with a tap interface 'vivtap', up. */
static struct net *open_tap(struct loop **l, bool wants_hdr)
{
	struct net_options o = { .kind = "tap", .ifname = "vivtap", .fd = -1, .wants_vnet_hdr = wants_hdr };
	struct ifreq ifr = { .ifr_name = "vivtap" };
	struct err err = ERR_INIT;
	struct net *n = NULL;

	if (unshare(CLONE_NEWNET) < 0)
		SKIP("not permitted to make a network namespace");
	CHECK_EQ(loop_new(l, NULL), 0);
	int r = net_open(&n, *l, &peer.c, &o, &err);

	if (r == -EPERM || r == -ENOENT || r == -ENODEV)
		SKIP(err.msg);
	if (r < 0)
		FAIL("%s", err.msg);
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK_EQ(ioctl(s, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP;
	CHECK_EQ(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
	return n;
}

static int packet_socket(void)
{
	int s = socket(AF_PACKET, SOCK_RAW, htons(0x88b5));
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5),
				 .sll_ifindex = (int)if_nametoindex("vivtap") };

	CHECK(s >= 0);
	CHECK_EQ(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	return s;
}

static void tap_both_ways(bool wants_hdr)
{
	uint8_t out[12 + 64] = { 0 }, in[128], *frame = out + 12;
	size_t skip = wants_hdr ? 0 : 12;
	struct loop *l;
	struct net *n = open_tap(&l, wants_hdr);
	int s = packet_socket();

	CHECK_EQ(net_has_vnet_hdr(n), wants_hdr);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, 0x88b5);
	frame[14] = 0x77;
	CHECK_EQ(send_bytes(n, out + skip, sizeof(out) - skip), 0);
	CHECK_EQ(recv(s, in, sizeof(in), 0), 64);
	CHECK_MEM(in, frame, 64);
	peer.wants_type = wants_hdr ? 0 : 0x88b5;
	frame[14] = 0x78;
	/* the kernel may say hello by itself: look for our frame among what comes */
	for (int i = 0; i < 50; i++) {
		peer.len = 0;
		CHECK_EQ(send(s, frame, 64, 0), 64);
		CHECK(wait_frame(l, 1000));
		if (!memcmp(peer.frame + 12 - skip, frame, 64))
			break;
	}
	CHECK_EQ(peer.len, 64 + 12 - skip);
	CHECK_MEM(peer.frame + 12 - skip, frame, 64);
	close(s);
	net_close(n);
	loop_free(l);
}

TEST(a_tap_carries_frames_both_ways)
{
	tap_both_ways(false);
}

TEST(a_tap_carries_frames_with_headers_both_ways)
{
	tap_both_ways(true);
}

TEST(a_tap_holds_frames_while_the_client_is_busy)
{
	uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };
	struct loop *l;
	struct net *n = open_tap(&l, false);
	int s = packet_socket();

	put_be16(frame + 12, 0x88b5);
	peer.is_busy = true;
	peer.wants_type = 0x88b5;
	CHECK_EQ(send(s, frame, 64, 0), 64);
	CHECK(!wait_frame(l, 200));
	CHECK_EQ(peer.n_frames, 0);
	peer.is_busy = false;
	net_rx_resume(n);
	CHECK(wait_frame(l, 1000));
	net_close(n);
	loop_free(l);
}

TEST(a_descriptor_that_is_no_tap_is_refused)
{
	int fd = open("/dev/null", O_RDWR);
	struct net_options o = { .kind = "tap", .fd = fd };
	struct err err = ERR_INIT;
	struct loop *l;
	struct net *n;

	CHECK_EQ(loop_new(&l, NULL), 0);
	CHECK_EQ(net_open(&n, l, &peer.c, &o, &err), -EINVAL);
	CHECK_HAS(err.msg, "not a tap interface");
	CHECK_EQ(fcntl(fd, F_GETFD), 0);        /* still the caller's */
	loop_free(l);
}
