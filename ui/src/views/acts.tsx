// SPDX-License-Identifier: Apache-2.0
// What can be done to things: to one on its page, to many in a list, by one request where the daemon knows how. What cannot be taken back is asked about before; what
// cannot be done now, or not by this user, says so.
import type { ComponentChildren } from "preact";
import { call, type Call } from "../api/client";
import { findKind, type Kind, type Need, type Schema } from "../api/spec";
import { t, tIf } from "../i18n";
import { Link, pathOf } from "../router";
import { may, session } from "../session";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { confirmThen } from "../widgets/dialog";
import type { Value } from "../widgets/form";
import { tell, tellError } from "../widgets/toast";
import { bulkCalls, checkBulk, runBulk } from "./bulk";
import { isEnded } from "./tasks";

export interface Act {
	name: string;
	kind: string;
	hasDryRun?: boolean;
	title: string;
	isDangerous?: boolean; // its name has to be typed
	warning?: string; // it is asked about with these words
	need: Need;
	fits: (d: Doc) => boolean; // does it make sense now?
	callFor: (d: Doc, body?: unknown) => Call;
	schema?: Schema; // of what must be said besides
}

// So many of those that are to be deleted are asked about before, so many calls of many are shown, and so many names.
const CHECKED_MOST = 10, CALLS_MOST = 3, NAMES_MOST = 10;
const HARD: readonly string[] = ["stopped", "reset", "restart", "cancel"];
const WITH_DATA: readonly string[] = ["instance", "image", "volume"];

const scope = (): Record<string, string> => ({ project: project.value });
const pathTo = (k: Kind, d: Doc): string => `/v1/${k.plural}/${encodeURIComponent(d.name)}`;

// Buttons of a machine by what it is and shall be.
const FITS: Record<string, (d: Doc) => boolean> = {
	running: (d) => d.spec?.state !== "running" || d.status?.state !== "running",
	paused: (d) => d.spec?.state === "running",
	stopped: (d) => d.spec?.state !== "stopped",
	restart: (d) => d.spec?.state !== "stopped",
	reset: (d) => ["running", "paused"].includes(d.status?.state ?? ""),
	cancel: (d) => !isEnded(d) && !d.cancel,
	flatten: (d) => d.kind !== "volume" || d.status?.linked === true,
};

const fitsFor = (kind: string, name: string): ((d: Doc) => boolean) => ((["instance", "task", "volume"].includes(kind) && FITS[name]) || (() => true));
const warningOf = (kind: string, name: string): { warning?: string } => (["instance", "task"].includes(kind) && HARD.includes(name) ? { warning: t(`warn.${name}` as "warn.reset") } : {});

// Wanted states are written into the document; buttons on the machine itself are operations.
export function actsOf(kind: Kind): Act[] {
	const acts: Act[] = [], common = (name: string) => ({ name, kind: kind.kind, fits: fitsFor(kind.kind, name), ...warningOf(kind.kind, name) });
	if (kind.kind === "instance")
		for (const state of ["running", "paused", "stopped"])
			acts.push({
				...common(state),
				title: t(`act.${state}` as "act.running"),
				need: kind.needs.change,
				callFor: (d) => ({ method: "PATCH", path: pathTo(kind, d), query: scope(), body: { spec: { state } } }),
			});
	for (const a of kind.actions)
		acts.push({
			...common(a.name),
			title: tIf(`act.${a.name}`, a.name),
			need: a.need,
			callFor: (d, body) => ({
				method: "POST",
				path: a.path.replace(/\{[a-z]+\}/, encodeURIComponent(d.name)),
				query: scope(),
				...(body === undefined ? {} : { body }),
			}),
			...(a.body ? { schema: a.body } : {}),
		});
	if (kind.canDelete)
		acts.push({
			...common("delete"),
			hasDryRun: kind.hasDryRun,
			title: t("delete"),
			isDangerous: true,
			need: kind.needs.delete,
			callFor: (d) => ({ method: "DELETE", path: pathTo(kind, d), query: scope() }),
		});
	return acts;
}

function deletionText(kind: string, names: string): string {
	return t(kind === "network" ? "delete.network" : WITH_DATA.includes(kind) ? "delete.text" : "delete.other", { names });
}

// What is said of somebody who may not.
export function refusalOf(need: Need): string | undefined {
	if (may(need, project.value)) return undefined;
	return t("act.forbidden", { user: session.value?.user ?? "", role: tIf(`choice.${need.role}`, need.role) });
}

// Why ACT cannot be done to DOCS; undefined: it can.
function obstacle(act: Act, docs: Doc[]): string | undefined {
	return refusalOf(act.need) ?? (docs.some((d) => act.fits(d)) ? undefined : t("act.not-now"));
}

// Does ACT to those of DOCS to which it can be done, after asking where it destroys something.
function perform(act: Act, docs: Doc[]): void {
	const fitting = docs.filter((d) => act.fits(d)), names = fitting.map((d) => d.name);
	const bulk = bulkCalls(act.kind, act.name, names), calls = bulk ?? fitting.map((d) => act.callFor(d));
	const list = names.slice(0, NAMES_MOST).join(", ") + (names.length > NAMES_MOST ? " …" : "");
	const run = async (value?: Value): Promise<void> => {
		if (bulk) return runBulk(act.title, bulk);
		const results = await Promise.allSettled(fitting.map((d) => call(act.callFor(d, act.schema ? value : undefined))));
		const bad = results.filter((r) => r.status === "rejected");
		if (bad.length === 1 && calls.length === 1) throw (bad[0] as PromiseRejectedResult).reason;
		for (const r of bad) tellError((r as PromiseRejectedResult).reason);
		if (bad.length < calls.length) tell(t("done.act", { act: act.title, n: calls.length - bad.length }));
	};
	if (act.schema) {
		confirmThen({ title: act.title, text: list, action: act.title, schema: act.schema, callOf: (v) => act.callFor(fitting[0]!, v), run });
		return;
	}
	if (!act.isDangerous && act.warning === undefined) {
		void run().catch(tellError);
		return;
	}
	confirmThen({
		title: act.isDangerous ? t("delete.title", { n: names.length }) : `${act.title}: ${list}`,
		text: act.isDangerous ? deletionText(act.kind, list) : act.warning!,
		action: act.title,
		...(act.isDangerous ? { typed: names.length === 1 ? names[0]! : String(names.length) } : {}),
		calls: calls.slice(0, CALLS_MOST),
		isDangerous: true,
		...(act.hasDryRun ? { check: () => (bulk ? checkBulk(bulk) : Promise.all(calls.slice(0, CHECKED_MOST).map((c) => call({ ...c, query: { ...c.query, "dry-run": "true" } })))) } : {}),
		run: () => run(),
	});
}

// May who is here make one of the kind called PLURAL?
export function mayCreate(plural: string): boolean {
	const kind = findKind(plural);
	return !!kind?.canCreate && refusalOf(kind.needs.create) === undefined;
}

interface GuardedProps {
	need: Need;
	class?: string;
	disabled?: boolean;
	title?: string;
	onClick: () => void;
	children: ComponentChildren;
}

// A button for those whose role allows it; others are told when they press it.
export function Guarded({ need, title, onClick, children, ...rest }: GuardedProps) {
	const why = refusalOf(need);
	return (
		<button type="button" {...rest} aria-disabled={why !== undefined} title={why ?? title} onClick={() => (why === undefined ? onClick() : tellError(new Error(why)))}>
			{children}
		</button>
	);
}

// Where one goes to make one of KIND. Who may not is told so there, too; what was typed would be in vain.
export function CreateLink({ kind }: { kind: Kind }) {
	if (!kind.canCreate) return null;
	const why = refusalOf(kind.needs.create), path = pathOf(kind.plural, "+");
	if (why === undefined)
		return (
			<Link to={path} class="button primary">
				{t("create")}
			</Link>
		);
	return (
		<Guarded need={kind.needs.create} class="primary" onClick={() => undefined}>
			{t("create")}
		</Guarded>
	);
}

// The buttons for ACTS. One that cannot be pressed stays where it is, and says why when it is.
export function Acts({ acts, docsOf }: { acts: Act[]; docsOf: () => Doc[] }) {
	const docs = docsOf();
	return (
		<>
			{acts
				// What asks for a name of its own is done to one.
				.filter((a) => docs.length === 1 || !a.schema)
				.map((a) => {
					const why = obstacle(a, docs);
					// They may have changed since it was drawn.
					const press = (): void => {
						const now = docsOf(), why = obstacle(a, now);
						if (why === undefined) perform(a, now);
						else tellError(new Error(why));
					};
					return (
						<button type="button" key={a.name} class={a.isDangerous ? "danger" : ""} aria-disabled={why !== undefined} title={why} onClick={press}>
							{a.title}
						</button>
					);
				})}
		</>
	);
}
