// SPDX-License-Identifier: Apache-2.0
import { useState } from "preact/hooks";
import type { ApiError } from "../api/client";
import { t } from "../i18n";
import { logIn, needsSetup, setUp } from "../session";
import { sentenceOf } from "../widgets/toast";

export function Login() {
	const [name, setName] = useState("");
	const [password, setPassword] = useState("");
	const [token, setToken] = useState("");
	const [code, setCode] = useState("");
	const [needsCode, setNeedsCode] = useState(false);
	const [error, setError] = useState("");
	const isFirst = needsSetup.value;
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setError("");
		await (isFirst ? setUp(token, name, password) : logIn(name, password, code)).catch((why: ApiError) => {
			setCode("");
			setNeedsCode(needsCode || why.field === "code");
			setError(sentenceOf(why));
		});
	};
	return (
		<main class="login">
			<form class="card" onSubmit={(e) => void submit(e)}>
				<img src="/icon.svg" alt="" width="48" height="48" />
				<h1>Vivarium</h1>
				{isFirst && (
					<>
						<p>{t("setup.text")}</p>
						<label class="field">
							<span>{t("setup.token")}</span>
							<input name="token" autocomplete="off" spellcheck={false} required value={token} onInput={(e) => setToken(e.currentTarget.value)} />
						</label>
					</>
				)}
				<label class="field">
					<span>{t("login.name")}</span>
					<input name="name" autocomplete="username" required value={name} onInput={(e) => (setName(e.currentTarget.value), setNeedsCode(false))} />
				</label>
				<label class="field">
					<span>{t("login.password")}</span>
					<input
						name="password"
						type="password"
						autocomplete={isFirst ? "new-password" : "current-password"}
						required
						value={password}
						onInput={(e) => setPassword(e.currentTarget.value)}
					/>
				</label>
				{needsCode && (
					<label class="field">
						<span>{t("login.code")}</span>
						<input name="code" autocomplete="one-time-code" spellcheck={false} autofocus required value={code} onInput={(e) => setCode(e.currentTarget.value)} />
					</label>
				)}
				{error && (
					<p class="error" role="alert">
						{error}
					</p>
				)}
				<button class="primary">{isFirst ? t("setup.submit") : t("login.submit")}</button>
			</form>
		</main>
	);
}
