// SPDX-License-Identifier: Apache-2.0
// The content of an image or a volume, when it is sent from this computer: how far it is, pause and resume; and what the node
// does with it afterwards.
import { formatBytes, formatNumber, formatTime, t, tIf } from "../i18n";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { beginUpload, missingOf, pauseUpload, resumeUpload, uploadOf, type Upload } from "../state/upload";
import { tellError } from "../widgets/toast";

const PERCENT = 100;

interface Progress {
	what?: string;
	done: number;
	total?: number;
}

// Bytes, or percent, which no file is so small as to be mistaken for.
function amount(p: Progress): string {
	if (p.total === undefined) return formatBytes(p.done);
	if (p.total === PERCENT) return `${formatNumber(p.done)} %`;
	return `${formatBytes(p.done)} / ${formatBytes(p.total)}`;
}

// What the node tells of something that it does with DOC.
export function ProgressOf({ doc }: { doc: Doc }) {
	const p = doc.status?.progress as Progress | undefined;
	if (!p) return <progress aria-label={t("image.making")} />;
	const label = tIf(`progress.${p.what}`, p.what ?? t("image.making"));
	return (
		<p>
			{label} {amount(p)}
			{p.total ? <progress aria-label={label} max={p.total} value={p.done} /> : <progress aria-label={label} />}
		</p>
	);
}

// The file that is to be sent, or sent on.
export function FileChoice({ onFile, hint }: { onFile: (f: File) => void; hint: string }) {
	return (
		<label class="field">
			<span>{t("guest.file")}</span>
			<input
				type="file"
				onChange={(e) => {
					const f = e.currentTarget.files?.[0];
					if (f) onFile(f);
				}}
			/>
			<small>{hint}</small>
		</label>
	);
}

function Sending({ uid, of }: { uid: string; of: Upload }) {
	const left = of.rate ? (of.size - of.sent) / of.rate : 0;
	return (
		<>
			<p role="status">{tIf(`upload.${of.phase}`, of.phase)}</p>
			<progress aria-label={t("upload.title")} max={Math.max(1, of.size)} value={of.sent} />
			<p class="soft">
				{formatBytes(of.sent)} / {formatBytes(of.size)}
				{of.phase === "sending" && of.rate > 0 && ` · ${t("upload.rate", { rate: formatBytes(of.rate), n: formatNumber(Math.ceil(left)) })}`}
			</p>
			{of.why && (
				<p class="error" role="alert" dir="auto">
					{of.why}
				</p>
			)}
			<div class="bar">
				{of.phase === "sending" || of.phase === "waiting" ? (
					<button type="button" onClick={() => pauseUpload(uid)}>
						{t("act.paused")}
					</button>
				) : (
					<button type="button" class="primary" onClick={() => resumeUpload(uid)}>
						{t("upload.resume")}
					</button>
				)}
			</div>
		</>
	);
}

// While content is missing, or just made into a disk.
export function UploadCard({ plural, doc }: { plural: string; doc: Doc }) {
	const missing = missingOf(doc), own = uploadOf(doc.uid);
	if (!missing && !doc.status?.progress) return null;
	const choose = (f: File): void => {
		if (missing && f.size !== missing.size) tellError(new Error(t("upload.other-file", { size: formatBytes(missing.size) })));
		else beginUpload(plural, doc, project.value, f);
	};
	return (
		<article class="card">
			<h2>{t("upload.title")}</h2>
			{!missing && <ProgressOf doc={doc} />}
			{missing && own && (own.phase !== "sent" || doc.status?.state === "failed") && <Sending uid={doc.uid} of={own} />}
			{missing && !own && doc.status?.state === "uploading" && <ProgressOf doc={doc} />}
			{missing && !own && doc.status?.state !== "uploading" && (
				<FileChoice onFile={choose} hint={t("upload.again", { received: formatBytes(missing.received), size: formatBytes(missing.size), when: formatTime(missing.expires) })} />
			)}
		</article>
	);
}
