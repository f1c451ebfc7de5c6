/** `sallyport approvals`, `approve` and `deny`: held commands, as their approvers see them. */
import { z } from "zod";
import { type ApiClient, connectApi } from "./api-client.ts";
import {
  type Command,
  exitCodes,
  gatewayOptions,
  type Invocation,
  requirePositional,
  stringOption,
  UsageError,
} from "./command.ts";
import {
  escapeControls,
  escapedLines,
  firstLine,
  jsonText,
  paint,
  printJson,
  shortDuration,
  type Terminal,
  table,
  verdictColour,
} from "./terminal.ts";

const approvalSchema = z.looseObject({
  id: z.string(),
  state: z.string(),
  requester: z.looseObject({ subject: z.string(), email: z.string() }),
  target: z.string(),
  text: z.string(),
  from: z.array(z.string()),
  expiresAt: z.string(),
  mayDecide: z.boolean(),
  decisions: z
    .array(
      z.looseObject({
        decision: z.string(),
        by: z.looseObject({ subject: z.string(), email: z.string() }),
        reason: z.string().optional(),
      }),
    )
    .default([]),
});
type Approval = z.infer<typeof approvalSchema>;

const states = ["pending", "approved", "used", "denied", "expired", "cancelled", "all"];

export const approvalsCommand: Command = {
  name: "approvals",
  summary: "Lists held commands that you asked for or may decide, or shows one whole; --watch follows them.",
  synopsis: "[id] [options]",
  options: {
    state: { type: "string", value: "state", help: `${states.join(", ")}; pending when not given` },
    watch: { type: "boolean", help: "stay and print each as it comes and is decided" },
    ...gatewayOptions,
  },
  positionals: { min: 0, max: 1 },
  async run(invocation) {
    const { terminal, values, positionals } = invocation;
    const state = stringOption(invocation, "state") ?? "pending";
    if (!states.includes(state)) throw new UsageError(`--state is one of ${states.join(", ")}`);
    const [id] = positionals;
    if (values.watch === true && (id !== undefined || values.state !== undefined))
      throw new UsageError("--watch follows them all: it goes with no id and no --state");
    const api = await connectApi(invocation);
    if (values.watch === true) return await watch(api, invocation);
    if (id !== undefined) {
      const one = await api.get(`/v1/approvals/${encodeURIComponent(id)}`, {});
      if (values.json === true) printJson(terminal, one);
      else terminal.out(whole(terminal, approvalSchema.parse(one)));
      return exitCodes.ok;
    }
    const answer = await api.get("/v1/approvals", { state: state === "all" ? undefined : state });
    const { approvals } = z.object({ approvals: z.array(approvalSchema) }).parse(answer);
    if (values.json === true) printJson(terminal, approvals);
    else if (approvals.length === 0) terminal.err(`No ${state === "all" ? "" : `${state} `}approvals.\n`);
    else {
      terminal.out(approvalTable(terminal, approvals));
      if (terminal.isTTY) terminal.err("A whole command: sallyport approvals <id>\n");
    }
    return exitCodes.ok;
  },
};

function approvalTable(terminal: Terminal, approvals: readonly Approval[]): string {
  const columns = [
    { title: "ID" },
    { title: "STATE" },
    { title: "WHO", max: 32 },
    { title: "TARGET", max: 24 },
    { title: "LEFT", right: true },
    { title: "APPROVERS", max: 24 },
    { title: "COMMAND" },
  ];
  const rows = approvals.map((approval) => [
    { text: approval.id, ...(approval.mayDecide && { colour: "bold" as const }) },
    stateCell(approval.state),
    { text: approval.requester.email || approval.requester.subject },
    { text: approval.target },
    { text: approval.state === "pending" ? shortDuration(Date.parse(approval.expiresAt) - Date.now()) : "" },
    { text: approval.from.join(",") },
    { text: firstLine(approval.text) },
  ]);
  return table(terminal, columns, rows);
}

function stateCell(state: string) {
  const colour = verdictColour(state);
  return { text: state, ...(colour !== undefined && { colour }) };
}

/** Server-sent events: `event:` and `data:` lines, a blank one between. Stays until Ctrl-C or the token's end. */
async function watch(api: ApiClient, { terminal, values }: Invocation): Promise<number> {
  if (values.json !== true) terminal.err("Following approvals; Ctrl-C ends.\n");
  let event = "";
  for await (const line of api.lines("/v1/approvals/stream")) {
    if (line.startsWith("event:")) event = line.slice("event:".length).trim();
    if (!line.startsWith("data:")) continue;
    if (event === "expired") {
      terminal.err("The token has expired; run `sallyport login`.\n");
      return exitCodes.unauthenticated;
    }
    const approval = approvalSchema.parse(JSON.parse(line.slice("data:".length)));
    terminal.out(values.json === true ? `${jsonText(approval)}\n` : watchLine(terminal, approval));
  }
  return exitCodes.ok;
}

function watchLine(terminal: Terminal, approval: Approval): string {
  return `${paint(terminal, "dim", new Date().toISOString().slice(11, 19))} ${whole(terminal, approval)}`;
}

/** Nothing of the command is left out or joined: what is approved is what is seen. */
function whole(terminal: Terminal, approval: Approval): string {
  const [id, who] = [
    escapeControls(approval.id),
    escapeControls(approval.requester.email || approval.requester.subject),
  ];
  const state = paint(terminal, verdictColour(approval.state), escapeControls(approval.state).padEnd(9));
  const how = approval.state === "pending" && approval.mayDecide ? `\n  sallyport approve ${id}` : "";
  const text = escapedLines(approval.text, "    ");
  const decided = approval.decisions.map(decisionLine).join("");
  return `${state} ${id}  ${who} on ${escapeControls(approval.target)}:\n    ${text}${decided}${how}\n`;
}

function decisionLine({ decision, by, reason }: Approval["decisions"][number]): string {
  const why = reason === undefined ? "" : `: ${escapeControls(reason)}`;
  const word = decision === "deny" ? "denied" : "approved";
  return `\n  ${word} by ${escapeControls(by.email || by.subject)}${why}`;
}

export const approveCommand = decisionCommand("approve", "Approves a held command; it runs at once, as it was asked.");
export const denyCommand = decisionCommand("deny", "Denies a held command.");

function decisionCommand(name: "approve" | "deny", summary: string): Command {
  return {
    name,
    summary,
    synopsis: "<id> [options]",
    options: { reason: { type: "string", value: "text", help: "recorded with the decision" }, ...gatewayOptions },
    positionals: { min: 1, max: 1 },
    async run(invocation) {
      const id = requirePositional(invocation, 0);
      const reason = stringOption(invocation, "reason");
      const api = await connectApi(invocation);
      const answer = await api.post(
        `/v1/approvals/${encodeURIComponent(id)}/${name}`,
        reason === undefined ? {} : { reason },
      );
      const { terminal, values } = invocation;
      if (values.json === true) {
        printJson(terminal, answer);
        return exitCodes.ok;
      }
      const approval = approvalSchema.parse(answer);
      const still = approval.state === "pending" ? "; it waits for another approver" : "";
      const state = paint(terminal, verdictColour(approval.state), escapeControls(approval.state));
      terminal.out(`${escapeControls(approval.id)} is ${state}${still}.\n`);
      return exitCodes.ok;
    },
  };
}
