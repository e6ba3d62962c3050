/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/uart.h"

#include <stdbool.h>
#include "util/checked.h"

/* Offsets; 0 and 1 are the divisor while LCR bit 7 (DLAB) is set. */
enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum {
	IER_RDA = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8, IER_ALL = 0x0f,
	IIR_NONE = 0x01, IIR_MODEM = 0x00, IIR_THRE = 0x02, IIR_RDA = 0x04, IIR_LINE = 0x06,
	IIR_TIMEOUT = 0x0c, IIR_FIFO = 0xc0,
	FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_TRIGGER_SHIFT = 6, FCR_KEPT = 0xc9,
	LCR_DLAB = 0x80,
	MCR_LOOP = 0x10, MCR_ALL = 0x1f,
	LSR_DATA = 0x01, LSR_OVERRUN = 0x02, LSR_BREAK = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40,
	MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80,
	MSR_DELTAS = 0x0f, MSR_TERI = 0x04,
	UART_CHAR_TIMEOUT = 4,          /* characters of silence before the timeout interrupt */
	UART_BITS_PER_CHAR = 10,
	UART_CLOCK_HZ = 115200,         /* baud rate with a divisor of 1 */
};

static const struct field uart_fields[] = {
	FIELD(struct uart_state, ier, 1),
	FIELD(struct uart_state, fcr, 1),
	FIELD(struct uart_state, lcr, 1),
	FIELD(struct uart_state, mcr, 1),
	FIELD(struct uart_state, msr, 1),
	FIELD(struct uart_state, scr, 1),
	FIELD(struct uart_state, dll, 1),
	FIELD(struct uart_state, dlm, 1),
	FIELD(struct uart_state, lsr_errors, 1),
	FIELD(struct uart_state, thre_pending, 1),
	FIELD(struct uart_state, timeout_pending, 1),
	FIELD(struct uart_state, rx_len, 1),
	FIELD(struct uart_state, rx_pos, 1),
	FIELD_RAW(struct uart_state, rx, 1),
};
const struct state_desc uart_state_desc = {
	.name = "uart", .version = 1, .size = sizeof(struct uart_state),
	.n_fields = ARRAY_LEN(uart_fields), .fields = uart_fields,
};

static bool uart_has_fifo(const struct uart *u)
{
	return u->s.fcr & FCR_ENABLE;
}

static unsigned uart_rx_capacity(const struct uart *u)
{
	return uart_has_fifo(u) ? UART_FIFO_LEN : 1;
}

static unsigned uart_rx_trigger(const struct uart *u)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	return uart_has_fifo(u) ? levels[u->s.fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The most important interrupt that is pending and enabled (PC16550D table IV). */
static uint8_t uart_iir(const struct uart *u)
{
	if ((u->s.ier & IER_LINE) && u->s.lsr_errors)
		return IIR_LINE;
	if ((u->s.ier & IER_RDA) && u->s.rx_len >= uart_rx_trigger(u))
		return IIR_RDA;
	if ((u->s.ier & IER_RDA) && u->s.timeout_pending && u->s.rx_len)
		return IIR_TIMEOUT;
	if ((u->s.ier & IER_THRE) && u->s.thre_pending)
		return IIR_THRE;
	if ((u->s.ier & IER_MODEM) && (u->s.msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

/* The line. OUT2 is not asked: it gates the interrupt on PC boards only by wiring, and
 * drivers that leave it off expect interrupts nevertheless. */
static void uart_update(struct uart *u)
{
	irq_set(&u->cfg.irq, uart_iir(u) != IIR_NONE);
}

/* Restart the silence timer: 4 characters after the last one came or was read. */
static void uart_timeout_restart(struct uart *u)
{
	uint32_t divisor = (uint32_t)u->s.dlm << 8 | u->s.dll;
	uint64_t char_ns = 1000000000ull * UART_BITS_PER_CHAR * (divisor ? divisor : 1) / UART_CLOCK_HZ;

	u->s.timeout_pending = 0;
	if (uart_has_fifo(u) && u->s.rx_len && u->s.rx_len < uart_rx_trigger(u))
		dev_timer_set(&u->timer, source_now_ns(u->source) + UART_CHAR_TIMEOUT * char_ns);
	else
		dev_timer_cancel(&u->timer);
}

static void uart_due(void *arg)
{
	struct uart *u = arg;

	u->s.timeout_pending = u->s.rx_len != 0;
	uart_update(u);
}

static void uart_rx_clear(struct uart *u)
{
	u->s.rx_len = u->s.rx_pos = 0;
	u->s.timeout_pending = 0;
	dev_timer_cancel(&u->timer);
}

static void uart_rx_push(struct uart *u, uint8_t byte)
{
	if (u->s.rx_len >= uart_rx_capacity(u)) {
		u->s.lsr_errors |= LSR_OVERRUN;
		if (uart_has_fifo(u))
			return;         /* the new character is lost */
		u->s.rx_len = 0;        /* without FIFO the old one is overwritten */
	}
	u->s.rx[(u->s.rx_pos + u->s.rx_len) % UART_FIFO_LEN] = byte;
	u->s.rx_len++;
	uart_timeout_restart(u);
}

static uint8_t uart_rx_pop(struct uart *u)
{
	bool was_full = u->s.rx_len == uart_rx_capacity(u);
	uint8_t byte = 0;

	if (u->s.rx_len) {
		byte = u->s.rx[u->s.rx_pos % UART_FIFO_LEN];
		u->s.rx_pos = (u->s.rx_pos + 1) % UART_FIFO_LEN;
		u->s.rx_len--;
		uart_timeout_restart(u);
	}
	if (was_full && u->cfg.rx_space && !(u->s.mcr & MCR_LOOP))
		u->cfg.rx_space(u->cfg.arg);
	return byte;
}

size_t uart_can_receive(const struct uart *u)
{
	if (u->s.mcr & MCR_LOOP)
		return 0;       /* the receiver is connected to the transmitter */
	return uart_rx_capacity(u) - (u->s.rx_len < uart_rx_capacity(u) ? u->s.rx_len : uart_rx_capacity(u));
}

void uart_receive(struct uart *u, const uint8_t *buf, size_t len)
{
	if (u->s.mcr & MCR_LOOP)
		return;
	for (size_t i = 0; i < len; i++)
		uart_rx_push(u, buf[i]);
	uart_update(u);
}

void uart_receive_break(struct uart *u)
{
	if (u->s.mcr & MCR_LOOP)
		return;
	u->s.lsr_errors |= LSR_BREAK;
	uart_rx_push(u, 0);
	uart_update(u);
}

/* Modem lines: the other end's, all ready, or in loopback our own outputs. */
static void uart_modem_update(struct uart *u)
{
	uint8_t old = u->s.msr, lines = MSR_CTS | MSR_DSR | MSR_DCD, mcr = u->s.mcr;

	if (mcr & MCR_LOOP)     /* RTS -> CTS, DTR -> DSR, OUT1 -> RI, OUT2 -> DCD */
		lines = (uint8_t)((mcr & 2) << 3 | (mcr & 1) << 5 | (mcr & 4) << 4 | (mcr & 8) << 4);

	uint8_t delta = (uint8_t)((old ^ lines) >> 4);

	if (!(old & MSR_RI) || (lines & MSR_RI))
		delta &= ~MSR_TERI;     /* RI counts when it goes away */
	u->s.msr = (uint8_t)(lines | (old & MSR_DELTAS) | delta);
}

static void uart_write_thr(struct uart *u, uint8_t val)
{
	if (u->s.mcr & MCR_LOOP)
		uart_rx_push(u, val);
	else
		u->cfg.write(u->cfg.arg, &val, 1);
	u->s.thre_pending = 1;          /* sent already: empty again */
}

static void uart_write_fcr(struct uart *u, uint8_t val)
{
	/* other bits count only together with the enable bit; changing that clears the FIFO */
	if ((val ^ u->s.fcr) & FCR_ENABLE || ((val & FCR_ENABLE) && (val & FCR_CLEAR_RX))) {
		bool was_full = u->s.rx_len == uart_rx_capacity(u);

		uart_rx_clear(u);
		u->s.fcr = val & FCR_ENABLE ? val & FCR_KEPT : 0;
		if (was_full && u->cfg.rx_space)
			u->cfg.rx_space(u->cfg.arg);
	}
	u->s.fcr = val & FCR_ENABLE ? val & FCR_KEPT : 0;
	uart_timeout_restart(u);
}

static void uart_write_ier(struct uart *u, uint8_t val)
{
	if ((val & IER_THRE) && !(u->s.ier & IER_THRE))
		u->s.thre_pending = 1;  /* enabling it while empty gives one */
	u->s.ier = val & IER_ALL;
}

static void uart_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val64)
{
	struct uart *u = dev;
	uint8_t val = (uint8_t)val64;
	bool dlab = u->s.lcr & LCR_DLAB;

	switch (off) {
	case RBR_THR:
		if (dlab)
			u->s.dll = val;
		else
			uart_write_thr(u, val);
		break;
	case IER:
		if (dlab)
			u->s.dlm = val;
		else
			uart_write_ier(u, val);
		break;
	case IIR_FCR:
		uart_write_fcr(u, val);
		break;
	case LCR:
		u->s.lcr = val;
		break;
	case MCR: {
		bool was_loop = u->s.mcr & MCR_LOOP;

		u->s.mcr = val & MCR_ALL;
		uart_modem_update(u);
		if (was_loop && !(val & MCR_LOOP) && u->cfg.rx_space)
			u->cfg.rx_space(u->cfg.arg);    /* input may flow again */
		break;
	}
	case SCR:
		u->s.scr = val;
		break;
	default:
		break;          /* LSR and MSR: factory test only */
	}
	uart_update(u);
}

static uint8_t uart_read_iir(struct uart *u)
{
	uint8_t iir = uart_iir(u);

	if (iir == IIR_THRE)
		u->s.thre_pending = 0;  /* reading it acknowledges this source */
	return (uint8_t)(iir | (uart_has_fifo(u) ? IIR_FIFO : 0));
}

static uint8_t uart_read_lsr(struct uart *u)
{
	uint8_t val = (uint8_t)(LSR_THRE | LSR_TEMT | u->s.lsr_errors | (u->s.rx_len ? LSR_DATA : 0));

	u->s.lsr_errors = 0;
	return val;
}

static uint64_t uart_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct uart *u = dev;
	bool dlab = u->s.lcr & LCR_DLAB;
	uint8_t val = 0;

	switch (off) {
	case RBR_THR:
		val = dlab ? u->s.dll : uart_rx_pop(u);
		break;
	case IER:
		val = dlab ? u->s.dlm : u->s.ier;
		break;
	case IIR_FCR:
		val = uart_read_iir(u);
		break;
	case LCR:
		val = u->s.lcr;
		break;
	case MCR:
		val = u->s.mcr;
		break;
	case LSR:
		val = uart_read_lsr(u);
		break;
	case MSR:
		val = u->s.msr;
		u->s.msr &= ~MSR_DELTAS;
		break;
	case SCR:
		val = u->s.scr;
		break;
	}
	uart_update(u);
	return val;
}

void uart_init(struct uart *u, struct bus *bus, struct loop *loop, struct source *source,
	       const struct uart_config *cfg)
{
	*u = (struct uart){
		.region = { .name = cfg->name, .dev = u, .read = uart_read, .write = uart_write, .flags = BUS_BYTES },
		.cfg = *cfg, .source = source,
	};
	dev_timer_init(&u->timer, loop, source, bus, uart_due, u);
	uart_reset(u);
}

void uart_fini(struct uart *u)
{
	dev_timer_fini(&u->timer);
}

void uart_reset(struct uart *u)
{
	u->s = (struct uart_state){ .msr = MSR_CTS | MSR_DSR | MSR_DCD, .dll = 1 };
	dev_timer_cancel(&u->timer);
	uart_update(u);
}

void uart_restored(struct uart *u)
{
	if (u->s.rx_len > UART_FIFO_LEN)
		u->s.rx_len = UART_FIFO_LEN;
	u->s.rx_pos %= UART_FIFO_LEN;
	u->s.ier &= IER_ALL;
	u->s.fcr &= FCR_KEPT;
	u->s.mcr &= MCR_ALL;
	if (!u->s.timeout_pending)
		uart_timeout_restart(u);
	uart_update(u);
}
