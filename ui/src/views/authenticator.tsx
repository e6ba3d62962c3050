// SPDX-License-Identifier: Apache-2.0
// Codes beside the password: making an authenticator known, and being rid of it; of others, for administrators, only that.
import { useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type ApiError, type Call } from "../api/client";
import { formatTime, t } from "../i18n";
import { pathOf } from "../router";
import { session } from "../session";
import { confirmThen, CurlOf } from "../widgets/dialog";
import { sentenceOf, tell } from "../widgets/toast";

interface State {
	is_on: boolean;
	since?: string;
	recovery_left?: number;
}

const pathFor = (user: string): string => `/v1${pathOf("users", user)}/totp`;

interface Entry {
	name: string;
	title: string;
	value: Signal<string>;
	isSecret?: boolean;
}

function Typed({ of, isWrong }: { of: Entry; isWrong: boolean }) {
	const rest = { name: `totp-${of.name}`, required: true, "aria-invalid": isWrong, value: of.value.value };
	const set = (e: { currentTarget: HTMLInputElement }): void => void (of.value.value = e.currentTarget.value);
	if (of.isSecret) return <input {...rest} type="password" autocomplete="current-password" onInput={set} />;
	return <input {...rest} autocomplete="one-time-code" spellcheck={false} onInput={set} />;
}

// Some fields, one button, and what the API says against them.
function Ask(p: { entries: Entry[]; action: string; of: Call; shown: Record<string, string>; done: (answer: Record<string, unknown>) => void }) {
	const complaint = useSignal<{ field: string | undefined; text: string } | undefined>(undefined);
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		complaint.value = undefined;
		try {
			const answer = await call<Record<string, unknown>>(p.of);
			for (const x of p.entries) x.value.value = "";
			p.done(answer);
		} catch (why) {
			complaint.value = { field: (why as ApiError).field, text: sentenceOf(why as ApiError) };
		}
	};
	return (
		<form onSubmit={(e) => void submit(e)}>
			{p.entries.map((x) => (
				<label key={x.name} class={complaint.value?.field === x.name ? "field wrong" : "field"}>
					<span>{x.title}</span>
					<Typed of={x} isWrong={complaint.value?.field === x.name} />
				</label>
			))}
			{complaint.value && (
				<p class="error" role="alert">
					{complaint.value.text}
				</p>
			)}
			<button class="primary">{p.action}</button>
			<CurlOf of={{ ...p.of, body: p.shown }} />
		</form>
	);
}

// Of oneself.
export function Authenticator({ user }: { user: string }) {
	const state = useSignal<State | undefined>(undefined), key = useSignal<Record<string, string> | undefined>(undefined);
	const recovery = useSignal<string[]>([]), password = useSignal(""), code = useSignal("");
	const ask = (): void => void call<State>({ method: "GET", path: pathFor(user) }).then((s) => (state.value = s), () => undefined);
	useEffect(ask, [user]);
	if (!state.value) return <p class="empty">{t("loading")}</p>;
	const secret: Entry = { name: "password", title: t("login.password"), value: password, isSecret: true };
	const typed: Entry = { name: "code", title: t("login.code"), value: code };
	if (recovery.value.length)
		return (
			<>
				<p>{t("totp.recovery")}</p>
				<pre tabIndex={0}>{recovery.value.join("\n")}</pre>
				<button type="button" class="primary" onClick={() => ((recovery.value = []), ask())}>
					{t("totp.kept")}
				</button>
			</>
		);
	if (state.value.is_on)
		return (
			<>
				<p>{t("totp.on", { when: formatTime(state.value.since ?? ""), n: state.value.recovery_left ?? 0 })}</p>
				<Ask
					entries={[secret, typed]}
					action={t("totp.remove")}
					of={{ method: "POST", path: `${pathFor(user)}/remove`, body: { password: password.value, code: code.value } }}
					shown={{ password: "…", code: "…" }}
					done={() => (tell(t("totp.removed")), ask())}
				/>
			</>
		);
	if (key.value)
		return (
			<>
				<p>{t("totp.key")}</p>
				<pre tabIndex={0}>{key.value["secret"]}</pre>
				<p>
					<a href={key.value["uri"]}>{t("totp.open")}</a>
				</p>
				<Ask
					key="confirm"
					entries={[typed]}
					action={t("totp.confirm")}
					of={{ method: "POST", path: `${pathFor(user)}/confirm`, body: { code: code.value } }}
					shown={{ code: "…" }}
					done={(answer) => ((key.value = undefined), (recovery.value = answer["recovery_codes"] as string[]))}
				/>
			</>
		);
	return (
		<>
			<p>{t("totp.off")}</p>
			<Ask
				key="begin"
				entries={[secret]}
				action={t("totp.begin")}
				of={{ method: "POST", path: pathFor(user), body: { password: password.value } }}
				shown={{ password: "…" }}
				done={(answer) => (key.value = answer as Record<string, string>)}
			/>
		</>
	);
}

// Of a user that an administrator looks at.
export function AuthenticatorOf({ user }: { user: string }) {
	const state = useSignal<State | undefined>(undefined);
	const ask = (): void => void call<State>({ method: "GET", path: pathFor(user) }).then((s) => (state.value = s), () => undefined);
	useEffect(ask, [user]);
	if (!state.value || user === session.value?.user) return null;
	const remove: Call = { method: "POST", path: `${pathFor(user)}/remove`, body: {} };
	const confirm = (): void =>
		confirmThen({
			title: t("totp.reset", { name: user }),
			text: t("totp.reset-text"),
			action: t("totp.remove"),
			calls: [remove],
			isDangerous: true,
			run: () => call(remove).then(ask),
		});
	return (
		<article class="card">
			<h2>{t("totp.title")}</h2>
			<p>{state.value.is_on ? t("totp.on", { when: formatTime(state.value.since ?? ""), n: state.value.recovery_left ?? 0 }) : t("totp.off-of")}</p>
			{state.value.is_on && (
				<button type="button" class="danger" onClick={confirm}>
					{t("totp.remove")}
				</button>
			)}
		</article>
	);
}
