// SPDX-License-Identifier: Apache-2.0
// Who is there: the first administrator, somebody who logs in, or somebody whose session has ended meanwhile.
import { useState } from "preact/hooks";
import type { ApiError } from "../api/client";
import { t, type MessageKey } from "../i18n";
import { end, logIn, needsSetup, session, setUp } from "../session";
import { Dialog } from "../widgets/dialog";
import { sentenceOf } from "../widgets/toast";

interface InputProps {
	name: string;
	label: MessageKey;
	isSecret?: boolean;
	autocomplete: string;
	value: string;
	onChange: (v: string) => void;
	isReadOnly?: boolean;
	isFirst?: boolean; // to be filled in at once
}

function Input(p: InputProps) {
	const rest = {
		name: p.name,
		autocomplete: p.autocomplete,
		spellcheck: false,
		required: true,
		autofocus: p.isFirst,
		readOnly: p.isReadOnly,
		value: p.value,
		onInput: (e: { currentTarget: HTMLInputElement }) => p.onChange(e.currentTarget.value),
	} as const;
	return (
		<label class="field">
			<span>{t(p.label)}</span>
			{p.isSecret ? <input {...rest} type="password" /> : <input {...rest} type="text" />}
		</label>
	);
}

// USER: only this one.
function LoginForm({ user }: { user?: string | undefined }) {
	const [name, setName] = useState(user ?? "");
	const [password, setPassword] = useState("");
	const [token, setToken] = useState("");
	const [code, setCode] = useState("");
	const [needsCode, setNeedsCode] = useState(false);
	const [error, setError] = useState("");
	const [isBusy, setBusy] = useState(false);
	const isFirst = needsSetup.value && user === undefined;
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setError("");
		setBusy(true);
		await (isFirst ? setUp(token, name, password) : logIn(name, password, code)).catch((why: ApiError) => {
			setCode("");
			setNeedsCode(needsCode || why.field === "code");
			setError(sentenceOf(why));
		});
		setBusy(false);
	};
	return (
		<form onSubmit={(e) => void submit(e)}>
			{isFirst && <p>{t("setup.text")}</p>}
			{isFirst && <Input name="token" label="setup.token" autocomplete="off" value={token} onChange={setToken} />}
			<Input name="name" label="login.name" autocomplete="username" value={name} onChange={setName} isReadOnly={user !== undefined} />
			<Input name="password" label="login.password" isSecret autocomplete={isFirst ? "new-password" : "current-password"} value={password} onChange={setPassword} />
			{needsCode && <Input name="code" label="login.code" autocomplete="one-time-code" isFirst value={code} onChange={setCode} />}
			{error && (
				<p class="error" role="alert">
					{error}
				</p>
			)}
			<footer class="bar">
				{user !== undefined && (
					<button type="button" onClick={end}>
						{t("logout")}
					</button>
				)}
				<span class="grow" />
				<button class="primary" disabled={isBusy}>
					{isFirst ? t("setup.submit") : t("login.submit")}
				</button>
			</footer>
		</form>
	);
}

export function Login() {
	return (
		<main class="login">
			<div class="card">
				<img src="/icon.svg" alt="" width="48" height="48" />
				<h1>Vivarium</h1>
				<LoginForm />
			</div>
		</main>
	);
}

// Over the page, which keeps what was typed.
export function LoginAgain() {
	return (
		<Dialog title={t("login.expired")}>
			<p>{t("login.expired-text")}</p>
			<LoginForm user={session.value?.user} />
		</Dialog>
	);
}
