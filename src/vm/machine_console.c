/* SPDX-License-Identifier: Apache-2.0 */
/* Serial devices of the guest and consoles of the host, joined. UART output and room for its
 * input come from vCPU threads with bus_lock held; everything else is the loop thread's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "virtio/console.h"
#include "vm/agent.h"
#include "vm/handover.h"
#include "vm/machine.h"
#include "vm/machine_priv.h"

_Static_assert((int)CONFIG_PORTS_MAX == (int)VIRTIO_CONSOLE_PORTS_MAX, "the validator's limit is the device's");
_Static_assert((int)CONFIG_PORT_NAME_MAX == (int)VIRTIO_CONSOLE_NAME_MAX, "the validator's limit is the device's");

/* Without any console in the configuration, stdio is on the UART. */
static const struct config_console default_console = { .target = (char *)"stdio", .device = (char *)"uart" };

/* Not one of the configuration's: its host's end is in this process. */
static const struct config_console agent_console = { .target = (char *)"none", .device = (char *)"virtio",
						     .name = (char *)AGENT_PORT_NAME };

static void machine_user_quits(void *arg)
{
	machine_quit(arg, "quit");
}

/* --- UARTs --- */

static void machine_uart_write(void *arg, const uint8_t *buf, size_t len)
{
	static struct log_guest lost = LOG_GUEST("output lost: nobody reads the console");
	struct machine_line *l = arg;

	if (l->host && console_write(l->host, buf, len) < len)
		log_guest(&lost, len);
}

static void machine_uart_rx_space(void *arg)
{
	struct machine_line *l = arg;

	if (l->host)
		console_kick_input(l->host);
}

static size_t machine_uart_input(void *arg, const uint8_t *buf, size_t len)
{
	struct machine_line *l = arg;
	struct machine *m = l->machine;
	struct uart *u = &m->uart[l->n];

	bus_lock(m->bus);
	size_t room = uart_can_receive(u), n = len < room ? len : room;
	if (n)
		uart_receive(u, buf, n);
	bus_unlock(m->bus);
	return n;
}

void machine_init_uarts(struct machine *m)
{
	static const struct {
		const char *name;
		int gsi;
	} com[CONFIG_UARTS_MAX] = { { "com1", BOARD_GSI_COM1 }, { "com2", BOARD_GSI_COM2 } };

	for (unsigned i = 0; i < m->n_uarts; i++) {
		uart_init(&m->uart[i], m->bus, m->loop, &m->source.s, &(struct uart_config){
			.name = com[i].name, .irq = isa_irq_line(&m->isa, com[i].gsi),
			.write = machine_uart_write, .rx_space = machine_uart_rx_space, .arg = &m->com[i],
		});
	}
}

/* --- ports of the virtio console --- */

/* A console loses what nobody reads: Linux waits for it with interrupts off. */
static size_t machine_hvc_write(void *arg, const uint8_t *buf, size_t len)
{
	machine_uart_write(arg, buf, len);
	return len;
}

static size_t machine_port_write(void *arg, const uint8_t *buf, size_t len)
{
	struct machine_line *l = arg;

	return l->host ? console_write(l->host, buf, len) : len;
}

static void machine_port_readable(void *arg)
{
	struct machine_line *l = arg;

	if (l->host)
		console_kick_input(l->host);
}

static size_t machine_port_input(void *arg, const uint8_t *buf, size_t len)
{
	struct machine_line *l = arg;

	return virtio_console_input(l->dev, l->n, buf, len);
}

static void machine_port_writable(void *arg)
{
	struct machine_line *l = arg;

	virtio_console_writable(l->dev, l->n);
}

/* Programs in the guest see when nobody is at the host's end. A console has always somebody. */
static void machine_port_connected(void *arg, bool is_connected)
{
	struct machine_line *l = arg;

	if (l->is_stream)
		virtio_console_set_open(l->dev, l->n, is_connected);
}

/* --- the guest agent's port --- */

static size_t machine_agent_write(void *arg, const uint8_t *buf, size_t len)
{
	agent_receive(((struct machine_line *)arg)->machine->agent, buf, len);
	return len;
}

static void machine_agent_readable(void *arg)
{
	agent_go_on(((struct machine_line *)arg)->machine->agent);
}

static void machine_agent_opened(void *arg, bool is_open)
{
	agent_set_open(((struct machine_line *)arg)->machine->agent, is_open);
}

static size_t machine_agent_send(void *arg, const uint8_t *buf, size_t len)
{
	const struct machine *m = arg;
	const struct machine_line *l = m->agent_line;

	return l ? virtio_console_input(l->dev, l->n, buf, len) : len;
}

static struct virtio_console_port machine_agent_port(struct machine_line *l)
{
	return (struct virtio_console_port){
		.name = AGENT_PORT_NAME, .arg = l, .write = machine_agent_write, .readable = machine_agent_readable,
		.opened = machine_agent_opened,
	};
}

int machine_new_agent(struct machine *m, struct err *err)
{
	struct machine_line *l = &m->agent_own;
	int r = l->machine ? err_set(err, -EBUSY, "the guest agent's port that was unplugged is still in use") : 0;

	/* One that was there before has not forgotten who asks it. */
	if (!r && !m->agent)
		r = agent_new(&m->agent, m->loop, machine_agent_send, m, err);

	if (r < 0)
		return r;
	*l = (struct machine_line){ .machine = m, .n = 1, .is_stream = true };
	/* Drivers take port 0 for a console. */
	struct virtio_console_port ports[2] = { { .name = NULL }, machine_agent_port(l) };
	struct virtio_console_config cc = { .ports = ports, .n_ports = 2, .has_no_first = true };

	r = virtio_console_new(&l->dev, &m->env, &cc, err);
	m->agent_dev = l->dev;
	m->agent_line = l;
	return r;
}

void machine_end_agent(struct machine *m)
{
	agent_cancel(m->agent);
}

void machine_drop_agent(struct machine *m)
{
	agent_free(m->agent);
	m->agent = NULL;
	m->agent_line = NULL;
}

int machine_new_hvc(struct machine *m, struct err *err)
{
	struct virtio_console_port ports[CONFIG_PORTS_MAX];
	struct virtio_console_config cc = { .ports = ports, .n_ports = m->n_ports };

	/* Where it has a device of its own, that is not ours. */
	bool has_agent = m->agent_line && m->agent_line != &m->agent_own;
	int r = has_agent ? agent_new(&m->agent, m->loop, machine_agent_send, m, err) : 0;

	if (r < 0)
		return r;
	for (unsigned i = 0; i < m->n_ports; i++) {
		const struct config_console *c = m->port[i].cfg;

		ports[i] = (struct virtio_console_port){
			.name = c ? c->name : NULL, .arg = &m->port[i], .readable = machine_port_readable,
			.write = !c ? NULL : c->name ? machine_port_write : machine_hvc_write,
		};
	}
	if (has_agent)
		ports[m->agent_line - m->port] = machine_agent_port(m->agent_line);
	r = virtio_console_new(&m->hvc, &m->env, &cc, err);
	for (unsigned i = 0; i < m->n_ports; i++)
		m->port[i].dev = m->hvc;
	return r;
}

int machine_make_console(struct machine *m, unsigned i, struct err *err)
{
	struct machine_line *l = m->own[i];
	struct virtio_console_port ports[2] = { { .name = NULL } };
	struct virtio_console_config cc = { .ports = ports, .n_ports = l->n + 1, .has_no_first = l->is_stream };

	/* Drivers take port 0 for a console; a stream is port 1 of a device that has no port 0. */
	ports[l->n] = (struct virtio_console_port){
		.name = l->cfg->name, .arg = l, .readable = machine_port_readable,
		.write = l->is_stream ? machine_port_write : machine_hvc_write,
	};
	int r = virtio_console_new(&l->dev, &m->env, &cc, err);

	return r ? r : machine_take(m, l->dev, m->n_virtio, err);
}

void machine_resize_terminal(struct machine *m, uint16_t cols, uint16_t rows)
{
	for (unsigned i = 0; i < m->n_ports; i++) {
		const struct config_console *c = m->port[i].cfg;

		if (c && !c->name && !strcmp(c->target, "stdio"))
			virtio_console_resize(m->hvc, i, cols, rows);
	}
}

/* --- port 0xe9: whole lines go to the log --- */

void machine_debug_write(void *arg, const uint8_t *buf, size_t len)
{
	struct machine *m = arg;

	for (size_t i = 0; i < len; i++) {
		if (buf[i] >= 0x20 && buf[i] < 0x7f)
			m->debug_line[m->debug_len++] = (char)buf[i];
		if (m->debug_len && (buf[i] == '\n' || m->debug_len == sizeof(m->debug_line))) {
			log_info("guest debug port: %.*s", (int)m->debug_len, m->debug_line);
			m->debug_len = 0;
		}
	}
}

/* --- life --- */

/* The configuration has been checked: one is free. */
static void machine_set_own_line(struct machine *m, struct machine_line *l, const struct config_console *c)
{
	*l = (struct machine_line){ .machine = m, .cfg = c, .n = c->name != NULL, .is_stream = c->name != NULL };
	m->own[m->n_own++] = l;
}

static void machine_add_line(struct machine *m, const struct config_console *c)
{
	if (c->id)
		machine_set_own_line(m, &m->own_line[m->n_own], c);
	else if (!strcmp(c->device, "uart"))
		m->com[m->n_uarts++].cfg = c;
	else if (!c->name && !m->port[0].cfg)
		m->port[0].cfg = c;
	else
		m->port[m->n_ports++].cfg = c;
}

static void machine_number_lines(struct machine *m, struct machine_line *lines, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		lines[i].machine = m;
		lines[i].n = i;
		lines[i].is_stream = lines[i].cfg && lines[i].cfg->name;
	}
}

int machine_plan_lines(struct machine *m, struct err *err)
{
	m->n_ports = m->cfg->has_hvc;
	for (unsigned i = 0; i < m->cfg->n_consoles; i++)
		machine_add_line(m, &m->cfg->consoles[i]);
	if (!m->cfg->n_consoles)
		machine_add_line(m, &default_console);
	if (m->cfg->has_agent && !m->cfg->has_agent_device) {
		m->agent_line = &m->port[m->n_ports];
		machine_add_line(m, &agent_console);
	}
	if (!m->n_uarts)
		m->n_uarts = 1; /* kernels look at COM1 whether we tell of it or not */
	machine_number_lines(m, m->com, m->n_uarts);
	machine_number_lines(m, m->port, m->n_ports);
	return 0;
}

/* Which of the configuration's consoles it is; the default one is the first. */
static unsigned machine_console_index(const struct machine_line *l)
{
	return l->cfg == &default_console ? 0 : (unsigned)(l->cfg - l->machine->cfg->consoles);
}

static int machine_hand_over_lines(const struct machine_line *lines, unsigned n, struct handed *h, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < n; i++)
		if (lines[i].host)
			r = console_hand_over(lines[i].host, h->console[machine_console_index(&lines[i])], err);
	return r;
}

int machine_hand_over_consoles(const struct machine *m, struct handed *h, struct err *err)
{
	int r = machine_hand_over_lines(m->com, m->n_uarts, h, err);

	if (!r)
		r = machine_hand_over_lines(m->port, m->n_ports, h, err);
	for (unsigned i = 0; !r && i < m->n_own; i++)
		r = machine_hand_over_lines(m->own[i], 1, h, err);
	return r;
}

/* Open the host's end of a line. GUEST without its argument, which is the line; HANDED: what another process had open, or
 * NULL; FD: the target, open already, or -1. */
static int machine_open_line(struct machine_line *l, struct console_guest guest, const struct handed *handed, int fd,
			     struct err *err)
{
	if (!l->cfg || l->cfg == &agent_console)
		return 0;
	guest.arg = l;
	struct console_config cfg = {
		.target = l->cfg->target, .guest = guest, .quit = machine_user_quits, .quit_arg = l->machine, .fd = fd,
		.handed = handed ? handed->console[machine_console_index(l)] : NULL,
	};
	int r = console_open(&l->host, l->machine->loop, &cfg, err);

	return r < 0 ? err_wrap(err, r, "console") : 0;
}

static const struct console_guest uart_guest = { .input = machine_uart_input };
static const struct console_guest port_guest = {
	.input = machine_port_input, .writable = machine_port_writable, .connected = machine_port_connected,
};

int machine_open_consoles(struct machine *m, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < m->n_uarts; i++)
		r = machine_open_line(&m->com[i], uart_guest, m->cfg->handed, -1, err);
	for (unsigned i = 0; !r && i < m->n_ports; i++)
		r = machine_open_line(&m->port[i], port_guest, m->cfg->handed, -1, err);
	for (unsigned i = 0; !r && i < m->n_own; i++)
		r = machine_open_line(m->own[i], port_guest, m->cfg->handed, -1, err);
	return r;
}

/* Do that to the host's end of each line. */
static void machine_each_host(struct machine *m, void (*do_it)(struct console *c))
{
	for (unsigned i = 0; i < m->n_uarts; i++)
		if (m->com[i].host)
			do_it(m->com[i].host);
	for (unsigned i = 0; i < m->n_ports; i++)
		if (m->port[i].host)
			do_it(m->port[i].host);
	for (unsigned i = 0; i < m->n_own; i++)
		if (m->own[i]->host)
			do_it(m->own[i]->host);
}

void machine_close_consoles(struct machine *m)
{
	if (m->is_handed_over)
		machine_each_host(m, console_forget_name);
	machine_each_host(m, console_close);
	for (unsigned i = 0; i < ARRAY_LEN(m->com); i++)
		m->com[i].host = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(m->port); i++)
		m->port[i].host = NULL;
	for (unsigned i = 0; i < m->n_own; i++)
		m->own[i]->host = NULL;
}

static void machine_start_host(struct console *c)
{
	console_start(c, false);
}

static void machine_continue_host(struct console *c)
{
	console_start(c, true);
}

void machine_start_consoles(struct machine *m)
{
	machine_each_host(m, m->cfg->saved ? machine_continue_host : machine_start_host);
}

/* --- consoles that come and go: devices of their own --- */

/* The list of the configuration has changed at FROM: what stood behind stands one place further up. */
static void machine_move_lines(struct machine *m, const struct config_console *from)
{
	for (unsigned i = 0; i < m->n_uarts; i++)
		m->com[i].cfg -= m->com[i].cfg && m->com[i].cfg != &default_console && m->com[i].cfg > from;
	for (unsigned i = 0; i < m->n_ports; i++)
		m->port[i].cfg -= m->port[i].cfg && m->port[i].cfg != &agent_console && m->port[i].cfg > from;
	for (unsigned i = 0; i < m->n_own; i++)
		m->own[i]->cfg -= m->own[i]->cfg > from;
}

int machine_add_own_line(struct machine *m, struct err *err)
{
	struct machine_line *l = m->own_line;

	while (l < m->own_line + CONFIG_OWN_CONSOLES_MAX && l->machine)
		l++;
	if (l == m->own_line + CONFIG_OWN_CONSOLES_MAX || m->n_own == CONFIG_OWN_CONSOLES_MAX)
		return err_set(err, -E2BIG, "the consoles that have been unplugged are still busy");
	machine_set_own_line(m, l, &m->cfg->consoles[m->cfg->n_consoles - 1]);
	return 0;
}

int machine_settle_consoles(struct machine *m, struct err *err)
{
	if (m->cfg->n_consoles)
		return 0;
	char text[32];

	snprintf(text, sizeof(text), "%s,device=%s", default_console.target, default_console.device);
	int r = config_set(m->cfg, "--console", text, err);

	for (unsigned i = 0; !r && i < m->n_uarts; i++)
		if (m->com[i].cfg == &default_console)
			m->com[i].cfg = &m->cfg->consoles[0];
	return r;
}

int machine_open_own_console(struct machine *m, unsigned i, int fd, struct err *err)
{
	struct machine_line *l = m->own[i];
	int r = machine_open_line(l, port_guest, NULL, fd, err);

	if (!r)
		console_start(l->host, false);
	return r;
}

int machine_plan_hvc(struct machine *m, struct err *err)
{
	if (m->port[0].machine)
		return err_set(err, -EBUSY, "the console device that was unplugged is still in use");
	m->port[0] = (struct machine_line){ .machine = NULL };
	m->n_ports = 1;
	machine_number_lines(m, m->port, m->n_ports);
	return 0;
}

/* The last console has gone: none shall not stand for the one that is there without being named. */
static void machine_settle_none(struct machine *m)
{
	if (!m->cfg->n_consoles && config_set(m->cfg, "--console", "none,device=uart", NULL) == 0)
		m->com[0].cfg = &m->cfg->consoles[0];
}

void machine_remove_ports(struct machine *m)
{
	for (unsigned i = 0; i < m->n_ports; i++) {
		const struct config_console *at = m->port[i].cfg;

		m->port[i].cfg = NULL;
		console_retire(m->port[i].host);
		m->port[i].host = NULL;
		if (!at || at == &agent_console)
			continue;
		machine_move_lines(m, at);
		config_remove(m->cfg, "--console", (unsigned)(at - m->cfg->consoles));
	}
	m->n_ports = 0;
	machine_settle_none(m);
}

struct machine_line *machine_remove_own_line(struct machine *m, unsigned i)
{
	struct machine_line *l = m->own[i];
	const struct config_console *at = l->cfg;

	l->cfg = NULL;
	console_retire(l->host);
	l->host = NULL;
	memmove(&m->own[i], &m->own[i + 1], (--m->n_own - i) * sizeof(m->own[0]));
	machine_move_lines(m, at);
	config_remove(m->cfg, "--console", (unsigned)(at - m->cfg->consoles));
	machine_settle_none(m);
	return l;
}

void machine_free_line(struct machine_line *l)
{
	if (l)
		*l = (struct machine_line){ .machine = NULL };
}
