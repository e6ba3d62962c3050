/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/rtc.h"

#include <stdbool.h>
#include "util/checked.h"

enum {
	RTC_SEC, RTC_SEC_ALARM, RTC_MIN, RTC_MIN_ALARM, RTC_HOUR, RTC_HOUR_ALARM, RTC_WDAY, RTC_MDAY,
	RTC_MONTH, RTC_YEAR, RTC_A, RTC_B, RTC_C, RTC_D,
	RTC_CENTURY = 0x32,

	A_UIP = 1 << 7, A_RATE = 0x0f, A_DIVIDER = 0x70, A_DIVIDER_RUN = 0x20,
	B_SET = 1 << 7, B_PIE = 1 << 6, B_AIE = 1 << 5, B_UIE = 1 << 4, B_SQWE = 1 << 3, B_BINARY = 1 << 2,
	B_24H = 1 << 1,
	C_IRQF = 1 << 7, C_PF = 1 << 6, C_AF = 1 << 5, C_UF = 1 << 4,
	D_VALID = 1 << 7,
	HOUR_PM = 1 << 7,
	ALARM_ANY = 0xc0,               /* both bits set: matches every value */
};

#define NS_PER_S 1000000000ll
#define RTC_UIP_NS 244000               /* UIP is up this long before the seconds change */
#define RTC_NEVER UINT64_MAX

static const struct field rtc_fields[] = {
	FIELD_RAW(struct rtc_state, cmos, 1),
	FIELD(struct rtc_state, index, 1),
	FIELD(struct rtc_state, offset_s, 1),
	FIELD(struct rtc_state, periodic_ns, 1),
	FIELD(struct rtc_state, last_s, 1),
};
const struct state_desc rtc_state_desc = {
	.name = "rtc", .version = 1, .size = sizeof(struct rtc_state),
	.n_fields = ARRAY_LEN(rtc_fields), .fields = rtc_fields,
};

/* A date of the proleptic Gregorian calendar, UTC. */
struct rtc_time {
	int64_t year;
	int month, mday, wday;          /* 1.., 1.., 0: Sunday */
	int hour, min, sec;
};

/* Days since 1970-01-01; the year begins in March, which puts the leap day at its end. */
static int64_t rtc_days(int64_t year, int month, int mday)
{
	int64_t y = month <= 2 ? year - 1 : year, era = y / 400;
	int64_t yoe = y - era * 400, doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + mday - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct rtc_time rtc_split(int64_t seconds)
{
	int64_t days = seconds / 86400, left = seconds % 86400;

	if (left < 0) {
		left += 86400;
		days--;
	}
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	int month = (int)(mp < 10 ? mp + 3 : mp - 9);

	return (struct rtc_time){
		.year = yoe + era * 400 + (month <= 2), .month = month,
		.mday = (int)(doy - (153 * mp + 2) / 5 + 1), .wday = (int)(((days + 4) % 7 + 7) % 7),
		.hour = (int)(left / 3600), .min = (int)(left / 60 % 60), .sec = (int)(left % 60),
	};
}

/* ---- bytes in the guest's format: BCD or binary, 12 or 24 hours ---- */

static uint8_t rtc_encode(const struct rtc *r, int v)
{
	return (uint8_t)(r->s.cmos[RTC_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int rtc_decode(const struct rtc *r, uint8_t v)
{
	return r->s.cmos[RTC_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *r, int hour)
{
	if (r->s.cmos[RTC_B] & B_24H)
		return rtc_encode(r, hour);
	return (uint8_t)(rtc_encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

static int rtc_decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->s.cmos[RTC_B] & B_24H)
		return rtc_decode(r, v);
	return rtc_decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static int64_t rtc_now_s(const struct rtc *r)
{
	return (int64_t)(source_wall_ns(r->source) / NS_PER_S) + r->s.offset_s;
}

/* Bring the time bytes up to date; while SET is on, they belong to the guest. */
static void rtc_refresh_bytes(struct rtc *r)
{
	struct rtc_time t = rtc_split(rtc_now_s(r));
	uint8_t *c = r->s.cmos;

	if (c[RTC_B] & B_SET)
		return;
	c[RTC_SEC] = rtc_encode(r, t.sec);
	c[RTC_MIN] = rtc_encode(r, t.min);
	c[RTC_HOUR] = rtc_encode_hour(r, t.hour);
	c[RTC_WDAY] = rtc_encode(r, t.wday + 1);
	c[RTC_MDAY] = rtc_encode(r, t.mday);
	c[RTC_MONTH] = rtc_encode(r, t.month);
	c[RTC_YEAR] = rtc_encode(r, (int)(((t.year % 100) + 100) % 100));
	c[RTC_CENTURY] = rtc_encode(r, (int)(((t.year / 100 % 100) + 100) % 100));
}

/* The guest has written time bytes: remember how far it is from the wall clock. Any bytes give
 * some time; only the month must be in range for the arithmetic. */
static void rtc_take_bytes(struct rtc *r)
{
	const uint8_t *c = r->s.cmos;
	int month = rtc_decode(r, c[RTC_MONTH]);
	int64_t year = rtc_decode(r, c[RTC_CENTURY]) * 100 + rtc_decode(r, c[RTC_YEAR]);

	if (month < 1 || month > 12)
		month = 1;

	int64_t s = rtc_days(year, month, rtc_decode(r, c[RTC_MDAY])) * 86400 +
		    rtc_decode_hour(r, c[RTC_HOUR]) * 3600 + rtc_decode(r, c[RTC_MIN]) * 60 +
		    rtc_decode(r, c[RTC_SEC]);

	r->s.offset_s = s - (int64_t)(source_wall_ns(r->source) / NS_PER_S);
	r->s.last_s = s;
}

/* ---- interrupts ---- */

static uint64_t rtc_period_ns(const struct rtc *r)
{
	unsigned rate = r->s.cmos[RTC_A] & A_RATE;

	if (!rate || (r->s.cmos[RTC_A] & A_DIVIDER) != A_DIVIDER_RUN)
		return 0;
	if (rate <= 2)
		rate += 7;      /* 256 Hz and 128 Hz, as with 8 and 9 */
	return ((uint64_t)NS_PER_S << (rate - 1)) / 32768;
}

static bool rtc_alarm_field(uint8_t alarm, int want, int have)
{
	return alarm >= ALARM_ANY || want == have;
}

/* Does the alarm match a second in (FROM, TO]? */
static bool rtc_alarm_between(const struct rtc *r, int64_t from, int64_t to)
{
	const uint8_t *c = r->s.cmos;
	int hour = rtc_decode_hour(r, c[RTC_HOUR_ALARM]), min = rtc_decode(r, c[RTC_MIN_ALARM]),
	    sec = rtc_decode(r, c[RTC_SEC_ALARM]);

	if (to - from > 86400)
		from = to - 86400;      /* all times of day are in there once */
	for (int64_t t = from + 1; t <= to; t++) {
		int s = (int)((t % 86400 + 86400) % 86400);

		if (rtc_alarm_field(c[RTC_HOUR_ALARM], hour, s / 3600) &&
		    rtc_alarm_field(c[RTC_MIN_ALARM], min, s / 60 % 60) &&
		    rtc_alarm_field(c[RTC_SEC_ALARM], sec, s % 60))
			return true;
	}
	return false;
}

/* Set the flags for everything that has happened until now, and the line from the flags. */
static void rtc_catch_up(struct rtc *r)
{
	uint8_t *c = r->s.cmos;
	uint64_t now = source_now_ns(r->source), period = rtc_period_ns(r);
	int64_t s = rtc_now_s(r);

	if (period && r->s.periodic_ns <= now) {
		c[RTC_C] |= C_PF;
		r->s.periodic_ns += ((now - r->s.periodic_ns) / period + 1) * period;
	}
	if (!(c[RTC_B] & B_SET) && s > r->s.last_s) {
		c[RTC_C] |= C_UF;
		if (rtc_alarm_between(r, r->s.last_s, s))
			c[RTC_C] |= C_AF;
	}
	r->s.last_s = s;

	/* flags and enables have the same places in C and B */
	bool irq = c[RTC_C] & c[RTC_B] & (C_PF | C_AF | C_UF);

	c[RTC_C] = (uint8_t)((c[RTC_C] & ~C_IRQF) | (irq ? C_IRQF : 0));
	irq_set(&r->irq, irq);
}

static void rtc_arm(struct rtc *r)
{
	uint64_t now = source_now_ns(r->source), at = RTC_NEVER;
	uint8_t b = r->s.cmos[RTC_B];

	if (b & (B_UIE | B_AIE))
		at = now + (uint64_t)(NS_PER_S - (int64_t)(source_wall_ns(r->source) % NS_PER_S));
	if ((b & B_PIE) && r->s.periodic_ns < at)
		at = r->s.periodic_ns;
	if (at == RTC_NEVER)
		dev_timer_cancel(&r->timer);
	else
		dev_timer_set(&r->timer, at);
}

static void rtc_due(void *arg)
{
	struct rtc *r = arg;

	rtc_catch_up(r);
	rtc_arm(r);
}

/* ---- registers ---- */

static void rtc_write_a(struct rtc *r, uint8_t val)
{
	uint64_t period;

	r->s.cmos[RTC_A] = val & ~A_UIP;
	period = rtc_period_ns(r);
	r->s.periodic_ns = period ? source_now_ns(r->source) + period : RTC_NEVER;
}

static void rtc_write_b(struct rtc *r, uint8_t val)
{
	uint8_t old = r->s.cmos[RTC_B];

	rtc_refresh_bytes(r);
	if (val & B_SET)
		val &= ~B_UIE;          /* MC146818: setting SET clears UIE */
	/* the bytes are read in the format in force while SET was on */
	if ((old & B_SET) && !(val & B_SET)) {
		r->s.cmos[RTC_B] = val;
		rtc_take_bytes(r);
	}
	r->s.cmos[RTC_B] = val;
}

static bool rtc_is_time(unsigned i)
{
	return i <= RTC_YEAR ? i != RTC_SEC_ALARM && i != RTC_MIN_ALARM && i != RTC_HOUR_ALARM : i == RTC_CENTURY;
}

static void rtc_reg_write(struct rtc *r, uint8_t val)
{
	unsigned i = r->s.index;

	rtc_catch_up(r);
	if (i == RTC_A) {
		rtc_write_a(r, val);
	} else if (i == RTC_B) {
		rtc_write_b(r, val);
	} else if (i == RTC_C || i == RTC_D) {
		return;         /* read-only */
	} else if (rtc_is_time(i)) {
		rtc_refresh_bytes(r);
		r->s.cmos[i] = val;
		if (!(r->s.cmos[RTC_B] & B_SET))
			rtc_take_bytes(r);
	} else {
		r->s.cmos[i] = val;
	}
	rtc_catch_up(r);
	rtc_arm(r);
}

static uint8_t rtc_reg_read(struct rtc *r)
{
	unsigned i = r->s.index;
	uint8_t val;

	if (rtc_is_time(i))
		rtc_refresh_bytes(r);
	switch (i) {
	case RTC_A:
		val = r->s.cmos[i];
		if (!(r->s.cmos[RTC_B] & B_SET) &&
		    source_wall_ns(r->source) % NS_PER_S >= (uint64_t)(NS_PER_S - RTC_UIP_NS))
			val |= A_UIP;
		return val;
	case RTC_C:
		rtc_catch_up(r);
		val = r->s.cmos[i];
		r->s.cmos[i] = 0;       /* reading acknowledges */
		irq_set(&r->irq, 0);
		return val;
	case RTC_D:
		return D_VALID;
	}
	return r->s.cmos[i];
}

static uint64_t rtc_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct rtc *r = dev;

	return off ? rtc_reg_read(r) : r->s.index;
}

static void rtc_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct rtc *r = dev;

	if (off)
		rtc_reg_write(r, (uint8_t)val);
	else
		r->s.index = val & 0x7f;        /* bit 7 masks NMI, which nobody sends */
}

/* ---- life ---- */

static void rtc_put16(struct rtc *r, unsigned i, uint64_t v)
{
	if (v > 0xffff)
		v = 0xffff;
	r->s.cmos[i] = (uint8_t)v;
	r->s.cmos[i + 1] = (uint8_t)(v >> 8);
}

/* Memory sizes where PC firmware looks for them. */
static void rtc_put_sizes(struct rtc *r)
{
	uint64_t above_1m = r->low_size > 1 << 20 ? r->low_size - (1 << 20) : 0;
	uint64_t above_16m = r->low_size > 16 << 20 ? r->low_size - (16 << 20) : 0;
	uint64_t high = r->high_size >> 16;

	rtc_put16(r, 0x15, 640);
	rtc_put16(r, 0x17, above_1m >> 10);
	rtc_put16(r, 0x30, above_1m >> 10);
	rtc_put16(r, 0x34, above_16m >> 16);
	rtc_put16(r, 0x5b, high & 0xffff);
	r->s.cmos[0x5d] = (uint8_t)(high >> 16);
}

void rtc_init(struct rtc *r, struct bus *bus, struct loop *loop, struct source *source, struct irq_line irq,
	      uint64_t low_size, uint64_t high_size)
{
	*r = (struct rtc){
		.region = { .name = "rtc", .dev = r, .read = rtc_read, .write = rtc_write, .flags = BUS_BYTES },
		.irq = irq, .source = source, .low_size = low_size, .high_size = high_size,
	};
	dev_timer_init(&r->timer, loop, source, bus, rtc_due, r);
	r->s.cmos[RTC_A] = A_DIVIDER_RUN | 6;   /* 1024 Hz, as PC firmware leaves it */
	r->s.cmos[RTC_B] = B_24H;
	r->s.periodic_ns = source_now_ns(source) + rtc_period_ns(r);
	r->s.last_s = rtc_now_s(r);
	rtc_put_sizes(r);
	rtc_reset(r);
}

void rtc_fini(struct rtc *r)
{
	dev_timer_fini(&r->timer);
}

void rtc_reset(struct rtc *r)
{
	r->s.index = 0;
	r->s.cmos[RTC_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
	r->s.cmos[RTC_C] = 0;
	irq_set(&r->irq, 0);
	rtc_arm(r);
}

void rtc_restored(struct rtc *r)
{
	int64_t limit = (int64_t)1 << 40;       /* seconds: far beyond what four digits of year reach */

	r->s.index &= 0x7f;
	if (r->s.offset_s > limit || r->s.offset_s < -limit)
		r->s.offset_s = 0;
	if (r->s.last_s > limit || r->s.last_s < -limit)
		r->s.last_s = rtc_now_s(r);
	rtc_catch_up(r);
	rtc_arm(r);
}
