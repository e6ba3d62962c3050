/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options for people: --help, and the manual page as roff (groff_man(7)). */
#include "vm/options_priv.h"

#include <string.h>
#include "util/checked.h"
#include "util/roff.h"

/* "on|off", "auto|kvm|interp" or the metavar. */
static const char *options_value_text(const struct option *o, char *buf, size_t cap)
{
	if (o->kind == OPT_FLAG)
		return "";
	if (o->kind == OPT_BOOL)
		return "on|off";
	if (o->kind != OPT_CHOICE)
		return o->metavar;
	snprintf(buf, cap, "%s", o->choices);
	for (char *p = buf; *p; p++)
		*p = *p == ' ' ? '|' : *p;
	return buf;
}

/* A switch that is off unless named needs no word about its default. */
static const char *options_default_text(const struct option *o)
{
	return o->def && strcmp(o->def, "off") ? o->def : NULL;
}

/* --- help --- */

static void options_print_row(FILE *to, const char *indent, const char *name, const char *sep,
			      const char *value, const char *help, const char *def)
{
	int n = fprintf(to, "%s%s%s%s", indent, name, *value ? sep : "", value);

	fprintf(to, "%*s%s", n < 32 ? 32 - n : 2, "", help);
	if (def)
		fprintf(to, " (default: %s)", def);
	fputc('\n', to);
}

void config_print_help(FILE *to)
{
	char buf[64];

	fprintf(to, "usage: viv-vmm --kernel FILE [options]\n       viv-vmm --firmware FILE [options]\n\nRun one virtual machine.\n\n");
	for (const struct option *o = options; o->arg; o++) {
		options_print_row(to, "  ", o->arg, " ", options_value_text(o, buf, sizeof(buf)), o->help,
				  options_default_text(o));
		for (const struct option *s = o->sub; s && s->arg; s++)
			options_print_row(to, "      ", s->arg, "=", options_value_text(s, buf, sizeof(buf)), s->help,
					  options_default_text(s));
	}
	fputc('\n', to);
	for (const struct option_action *a = option_actions; a->arg; a++)
		options_print_row(to, "  ", a->arg, " ", a->metavar ? a->metavar : "", a->help, NULL);
	fprintf(to, "\nOn a terminal, Ctrl-a x ends the machine and Ctrl-a h tells the other keys.\n");
}

/* --- manual page --- */

/* What stands around the table; roff, as it is printed. */
static const char man_head[] =
	".SH NAME\n"
	"viv\\-vmm \\- run one virtual machine\n"
	".SH SYNOPSIS\n"
	".SY viv\\-vmm\n"
	".B \\-\\-kernel\n"
	".I FILE\n"
	".RI [ options ]\n"
	".YS\n"
	".SY viv\\-vmm\n"
	".B \\-\\-firmware\n"
	".I FILE\n"
	".RI [ options ]\n"
	".YS\n"
	".SY viv\\-vmm\n"
	".B \\-\\-config\n"
	".I FILE\n"
	".RI [ options ]\n"
	".YS\n"
	".SY viv\\-vmm\n"
	".B ctl\n"
	".I SOCKET REQUEST\n"
	".RI [ value \" | \" key=value ]...\n"
	".RB [ \\-\\-json ]\n"
	".YS\n"
	".SH DESCRIPTION\n"
	".B viv\\-vmm\n"
	"runs one x86-64 machine with virtio disks, networks and consoles, as an ordinary user. "
	"Guest code is executed by KVM where the host has hardware virtualization, and by an interpreter "
	"where it has not. The kernel is loaded directly, without firmware, unless a firmware is to start the machine.\n"
	".PP\n"
	"The process ends when the guest powers off, when the user quits, or on SIGTERM, SIGINT or SIGHUP. "
	"Reports and errors go to standard error.\n"
	".PP\n"
	"Options may also be written as \\fB\\-\\-option=\\fIvalue\\fR. "
	"In a list of \\fIkey\\fB=\\fIvalue\\fR pairs, a comma that belongs to a value is written twice.\n"
	".SH OPTIONS\n";

static const char man_config[] =
	".SH CONFIGURATION DOCUMENT\n"
	".B \\-\\-config\n"
	"reads a JSON object. Unknown keys and keys that stand twice are refused, with the path of the value. "
	"What the document does not name keeps its default; options that follow on the command line win, and "
	"those that add a disk, network or console add to the document's.\n"
	".TS\n"
	"lb lb lb\n"
	"lb l  l.\n"
	"key\ttype\tas option\n";

static const char man_tail[] =
	".SH CONSOLE KEYS\n"
	"On a terminal, after Ctrl\\-a:\n"
	".TP\n.B x\nend the machine at once, without telling the guest.\n"
	".TP\n.BR a \" or Ctrl\\-a\"\nsend Ctrl\\-a to the guest.\n"
	".TP\n.B h\nlist these keys.\n"
	".PP\n"
	"Ctrl\\-c goes to the guest.\n"
	".SH CONTROL\n"
	"With \\fB\\-\\-control \\fIPATH\\fR a running machine takes requests.\n"
	".B viv\\-vmm ctl\n"
	"sends one and prints the answer, as JSON with \\fB\\-\\-json\\fR: "
	"\\fBviv\\-vmm ctl \\-\\-help\\fR lists the requests, \\fBviv\\-vmm ctl \\fISOCKET REQUEST \\fB\\-\\-help\\fR "
	"tells what one takes. Its exit status is 0 when the request was done, 1 when the machine refused, 2 when the "
	"arguments were not understood, 3 when the machine could not be reached.\n"
	".SH EXIT STATUS\n"
	".TP\n.B 0\nThe guest powered off or, with \\-\\-no\\-reboot, reset; the user quit; a signal asked for "
	"the end; or there was nothing to run (\\-\\-check, \\-\\-help, ...).\n"
	".TP\n.B 1\nAn error, told on standard error: an option, a file, the host, or a guest that cannot go on.\n"
	".TP\n.I other\nWhat the guest wrote to the port of \\-\\-exit\\-port.\n"
	".SH EXAMPLES\n"
	"An installed Debian with its console on the terminal and ssh on port 2222 of the host:\n"
	".PP\n.EX\n"
	"viv\\-vmm \\-\\-kernel vmlinuz \\-\\-initrd initrd.img \\e\n"
	"    \\-\\-cmdline \"console=ttyS0 root=/dev/vda rw\" \\-\\-memory 512M \\-\\-cpus 2 \\e\n"
	"    \\-\\-disk path=root.img \\-\\-net user,hostfwd=tcp:2222:22\n"
	".EE\n.PP\n"
	"The same from a document:\n"
	".PP\n.EX\n"
	"{\n"
	"  \"kernel\": \"vmlinuz\", \"initrd\": \"initrd.img\",\n"
	"  \"cmdline\": \"console=ttyS0 root=/dev/vda rw\",\n"
	"  \"memory\": \"512M\", \"cpus\": 2,\n"
	"  \"disks\": [ { \"path\": \"root.img\" } ],\n"
	"  \"nets\": [ { \"kind\": \"user\", \"hostfwd\": [ \"tcp:2222:22\" ] } ]\n"
	"}\n"
	".EE\n.PP\n"
	"Judge it without starting anything:\n"
	".PP\n.EX\nviv\\-vmm \\-\\-config debian.json \\-\\-check\n.EE\n"
	".SH FILES\n"
	".TP\n.I /dev/kvm\nused by the engine kvm; readable and writable for this user.\n"
	".TP\n.I /dev/net/tun\nused by \\-\\-net tap.\n"
	".TP\n.I passt\nthe program that \\-\\-net user starts, found by PATH.\n"
	".SH SEE ALSO\n"
	".BR passt (1),\n"
	".BR kernel\\-command\\-line (7)\n";

static void man_entry(FILE *to, const char *name, const char *sep, const char *value, const char *help)
{
	fprintf(to, ".TP\n\\fB");
	roff_put(to, name, true);
	fprintf(to, "\\fR");
	if (*value) {
		fprintf(to, "%s\\fI", sep);
		roff_put(to, value, true);
		fprintf(to, "\\fR");
	}
	fputc('\n', to);
	roff_put(to, help, false);
}

/* PARENT: the option that O is a key of, or NULL. */
static void man_option(FILE *to, const struct option *parent, const struct option *o)
{
	char buf[64];

	man_entry(to, o->arg, parent ? "=" : " ", options_value_text(o, buf, sizeof(buf)), o->help);
	if (options_default_text(o)) {
		fprintf(to, " (default: ");
		roff_put(to, o->def, true);
		fputc(')', to);
	}
	fprintf(to, ".\n");
	if (o->more) {
		roff_put(to, o->more, false);
		fputc('\n', to);
	}
	if (o->example) {
		fprintf(to, ".br\nExample: \\f(CW");
		if (parent)
			roff_put(to, parent->arg, true);
		fputs(parent ? " " : "", to);
		roff_put(to, o->example, true);
		fprintf(to, "\\fR\n");
	}
	if (!o->sub)
		return;
	fprintf(to, ".RS\n");
	for (const struct option *s = o->sub; s->arg; s++)
		man_option(to, o, s);
	fprintf(to, ".RE\n");
}

static void man_key(FILE *to, const char *prefix, const char *parent, const struct option *o)
{
	static const char *const types[] = {
		[OPT_STRING] = "string", [OPT_CHOICE] = "string", [OPT_SIZE] = "number of bytes, or string",
		[OPT_UINT] = "number", [OPT_BOOL] = "boolean", [OPT_FLAG] = "boolean",
		[OPT_STRINGS] = "array of strings", [OPT_LIST] = "array of objects",
	};
	char path[64];

	snprintf(path, sizeof(path), "%s%s", prefix, o->key);
	fprintf(to, "%s\t%s\t", path, types[o->kind]);
	if (parent) {
		roff_put(to, parent, true);
		fputc(' ', to);
	}
	roff_put(to, o->arg, true);
	fprintf(to, "%s\n", parent ? "=" : "");
	snprintf(path, sizeof(path), "%s%s[].", prefix, o->key);
	for (const struct option *s = o->sub; s && s->arg; s++)
		man_key(to, path, o->arg, s);
}

void config_print_man(FILE *to)
{
	fprintf(to, "'\\\" t\n.\\\" SPDX-License-Identifier: Apache-2.0\n"
		".\\\" Printed by viv-vmm --print-man; change src/vm/options.c or options_doc.c instead.\n"
		".TH VIV\\-VMM 1 \"\" \"Vivarium %s\" \"Vivarium\"\n%s", VIV_VERSION, man_head);
	for (const struct option *o = options; o->arg; o++)
		man_option(to, NULL, o);
	for (const struct option_action *a = option_actions; a->arg; a++) {
		man_entry(to, a->arg, " ", a->metavar ? a->metavar : "", a->help);
		fprintf(to, ".\n");
	}
	fputs(man_config, to);
	for (const struct option *o = options; o->arg; o++)
		man_key(to, "", NULL, o);
	fprintf(to, ".TE\n%s", man_tail);
}
