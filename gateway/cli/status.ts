/** `sallyport status`: the gateway's readiness, the policy in force, and who the caller is to it. */
import { z } from "zod";
import { shortCommit } from "../policy/commit.ts";
import { connectApi, gatewayAddress } from "./api-client.ts";
import { type Command, exitCodes, gatewayOptions } from "./command.ts";
import { escapeControls, paint, printJson } from "./terminal.ts";

const statusSchema = z.looseObject({
  gateway: z.string(),
  ready: z.boolean(),
  checks: z.record(z.string(), z.string()),
  policy: z.looseObject({
    revision: z.looseObject({ digest: z.string(), commit: z.string().optional() }).nullable(),
    source: z.string().nullish(),
    signedBy: z.string().nullish(),
    loadedAt: z.string().nullable(),
    attemptedAt: z.string().nullish(),
    lastError: z.string().nullable(),
  }),
});
const whoamiSchema = z.looseObject({
  subject: z.string(),
  email: z.string(),
  kind: z.string(),
  groups: z.array(z.string()),
});

export const statusCommand: Command = {
  name: "status",
  summary: "Shows whether the gateway is ready, which policy is in force, and who you are to it.",
  synopsis: "[options]",
  options: gatewayOptions,
  positionals: { min: 0, max: 0 },
  async run(invocation) {
    const { terminal, values } = invocation;
    const api = await connectApi(invocation);
    const [statusAnswer, whoamiAnswer] = await Promise.all([api.get("/v1/status"), api.get("/v1/whoami")]);
    const status = statusSchema.parse(statusAnswer);
    const whoami = whoamiSchema.parse(whoamiAnswer);
    if (values.json === true) {
      printJson(terminal, { ...status, caller: whoami });
      return status.ready ? exitCodes.ok : exitCodes.failed;
    }
    const { revision, source, signedBy, loadedAt, attemptedAt, lastError } = status.policy;
    const ready = status.ready ? paint(terminal, "green", "ready") : paint(terminal, "red", "not ready");
    const line = (title: string, text: string) => terminal.out(`${paint(terminal, "dim", title.padEnd(8))} ${text}\n`);
    line("gateway", `${escapeControls(status.gateway)} at ${gatewayAddress(invocation).origin}: ${ready}`);
    for (const [name, found] of Object.entries(status.checks))
      line(
        "",
        `${escapeControls(name)}: ${paint(terminal, found === "ok" ? "green" : "yellow", escapeControls(found))}`,
      );
    const commit = revision?.commit === undefined ? "" : ` (commit ${shortCommit(revision.commit)})`;
    line(
      "policy",
      revision === null
        ? "none"
        : escapeControls(`${revision.digest.slice(0, 19)}${commit}, in force since ${loadedAt ?? "?"}`),
    );
    if (source) line("", escapeControls(`from ${source}${signedBy ? `, signed by key ${signedBy}` : ""}`));
    if (attemptedAt) line("", `last looked for another ${escapeControls(attemptedAt)}`);
    if (lastError !== null) line("", paint(terminal, "red", `the latest reload failed: ${escapeControls(lastError)}`));
    const groups = whoami.groups.length === 0 ? "no groups" : whoami.groups.join(", ");
    line("you", escapeControls(`${whoami.email || whoami.subject}, ${whoami.kind}, ${groups}`));
    return status.ready ? exitCodes.ok : exitCodes.failed;
  },
};
