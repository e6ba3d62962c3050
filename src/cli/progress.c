/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/output.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum { PROGRESS_NS = 100000000, NOTE_NS = 500000000, BAR_MIN = 10, BAR_MAX = 40, TEXT_LEN = 40 };

/* Set by the handler: the one thing that a signal can reach. */
static volatile sig_atomic_t progress_interrupted;

static void on_interrupt(int signo)
{
	progress_interrupted = 1;
}

bool progress_is_interrupted(void)
{
	return progress_interrupted;
}

void progress_start(struct progress *p, const struct cli *c, const char *what)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	/* A second one finds the default again. */
	struct sigaction sa = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, NULL);
	*p = (struct progress){ .what = what, .start_ns = loop_now_ns(), .fd = -1,
				.is_shown = isatty(STDERR_FILENO) && !c->is_quiet && !c->is_json };
}

static unsigned progress_columns(void)
{
	struct winsize w;

	return !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col ? w.ws_col : 80;
}

static void progress_draw(const struct progress *p, uint64_t done, uint64_t total, uint64_t now)
{
	unsigned columns = progress_columns(), text = (unsigned)strlen(p->what) + TEXT_LEN;
	unsigned bar = columns > text + BAR_MIN ? columns - text : BAR_MIN;
	double part = total ? (double)done / (double)total : 1, sec = (double)(now - p->start_ns) / 1e9;
	char rate[OUTPUT_SIZE_LEN], line[BAR_MAX + 1];

	bar = bar < BAR_MAX ? bar : BAR_MAX;
	for (unsigned i = 0; i < bar; i++)
		line[i] = i < (unsigned)(part * bar) ? '#' : '.';
	line[bar] = '\0';
	output_size(rate, sec > 0 ? (uint64_t)((double)done / sec) : 0);
	fprintf(stderr, "\r%s [%s] %3.0f %% %s/s", p->what, line, part * 100, rate);
	if (part > 0 && sec > 1)
		fprintf(stderr, ", %.0f s left", sec / part - sec);
	fputs("\033[K", stderr);
}

int progress_note_in(struct progress *p, const char *path, struct err *err)
{
	p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return p->fd < 0 ? err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno)) : 0;
}

/* Always as long, so that a line is never seen half. */
static void progress_note(struct progress *p, uint64_t done, uint64_t total)
{
	char line[80];
	uint64_t now = loop_now_ns();

	if (p->noted_ns && now - p->noted_ns < NOTE_NS)
		return;
	p->noted_ns = now;
	int len = snprintf(line, sizeof(line), "%-15s %20" PRIu64 " %20" PRIu64 "\n", p->what, done < total ? done : total, total);
	/* It is for those who look; the work goes on without. */
	if (pwrite(p->fd, line, (size_t)len, 0) != len)
		p->noted_ns = now;
}

int progress_update(struct progress *p, uint64_t done, uint64_t total)
{
	if (progress_interrupted)
		return -EINTR;
	if (p->fd >= 0)
		progress_note(p, done, total);
	if (!p->is_shown)
		return 0;
	uint64_t now = loop_now_ns();

	if (now - p->drawn_ns >= PROGRESS_NS) {
		progress_draw(p, done < total ? done : total, total, now);
		p->drawn_ns = now;
	}
	return 0;
}

void progress_end(struct progress *p)
{
	if (p->is_shown && p->drawn_ns)
		fputs("\r\033[K", stderr);
	p->is_shown = false;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}
