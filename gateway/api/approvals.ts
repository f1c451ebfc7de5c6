/** Held commands: list, read, decide, and follow by server-sent events. */
import { type Context, Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import type { Authenticated } from "../identity/verifier.ts";
import { limits } from "../limits.ts";
import { createApprovalFeed } from "./approval-feed.ts";
import { isAuditor, mayDecide, maySeeApproval } from "./approval-rules.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { type ApiEnv, check, idOf, pageSize, queryOf } from "./http.ts";
import { type ApprovalRecord, approvalView, heldCommand } from "./views.ts";

const states = ["pending", "approved", "used", "denied", "expired", "cancelled"] as const;
const listQuery = z.strictObject({ state: z.enum(states).optional(), limit: pageSize.optional() });
const decisionBody = z.strictObject({ reason: z.string().max(2_000).optional() });
/** Comments keep proxies and Bun's idle timeout from ending a quiet stream. */
const heartbeatMs = 15_000;

export function addApprovalRoutes(app: Hono<ApiEnv>, deps: ApiDependencies): void {
  const now = deps.now ?? Date.now;
  const feed = createApprovalFeed({ store: deps.store, log: deps.log });
  const routes = new Hono<ApiEnv>();

  const sees = (caller: Authenticated, record: ApprovalRecord) =>
    maySeeApproval(caller.identity, heldCommand(record), deps.policyData());
  const view = (caller: Authenticated, record: ApprovalRecord) => ({
    ...approvalView(record, now()),
    mayDecide: mayDecide(caller.identity, heldCommand(record), now()).allowed,
  });

  /** What the caller may not see does not exist for it. */
  async function visible(caller: Authenticated, id: string): Promise<ApprovalRecord> {
    const record = await deps.store.getApproval(id);
    if (record === undefined || !sees(caller, record))
      throw new GatewayError("approval.not_found", "There is no such approval, or it is not yours to see.");
    return record;
  }

  routes.get("/", async (context) => {
    const query = check(listQuery, queryOf(context), "query");
    const { caller } = context.var;
    const { issuer, subject, kind, groups } = caller.identity;
    const seenBy = { issuer, subject, groups: kind === "human" ? groups : [] };
    const records = await deps.store.listApprovals({
      ...(query.state !== undefined && { state: query.state }),
      ...(!isAuditor(caller.identity, deps.policyData()) && { seenBy }),
      limit: query.limit ?? 100,
    });
    const shown = records.filter((record) => sees(caller, record));
    return context.json({ approvals: shown.map((record) => view(caller, record)) });
  });

  // Before "/:id", which it would match.
  routes.get("/stream", (context) => {
    const { caller } = context.var;
    if (feed.size() >= limits.apiStreamsMax)
      throw new GatewayError("session.too_many", `At most ${limits.apiStreamsMax} streams are served at once.`);
    // Nobody shuts the approvers out by opening them all.
    if (feed.size(caller.identity) >= limits.apiStreamsPerIdentityMax)
      throw new GatewayError(
        "session.too_many",
        `At most ${limits.apiStreamsPerIdentityMax} streams are served to one.`,
      );
    return streamSSE(context, async (stream) => {
      const queue: ApprovalRecord[] = [];
      let wake: () => void = () => {};
      const unsubscribe = feed.subscribe(caller.identity, (record) => {
        queue.push(record);
        wake();
      });
      stream.onAbort(() => wake());
      try {
        await stream.write(": following approvals\n\n");
        let quietSinceMs = now();
        while (!stream.aborted && !stream.closed) {
          // A stream does not outlive the token that opened it.
          if (now() >= caller.expiresAtMs) {
            await stream.writeSSE({ event: "expired", data: "{}" });
            return;
          }
          for (const record of queue.splice(0)) {
            if (!sees(caller, record)) continue;
            await stream.writeSSE({ event: "approval", data: JSON.stringify(view(caller, record)) });
            quietSinceMs = now();
          }
          if (now() - quietSinceMs >= heartbeatMs) {
            await stream.write(": still here\n\n");
            quietSinceMs = now();
          }
          if (queue.length > 0) continue;
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, 1_000);
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
      } finally {
        unsubscribe();
      }
    });
  });

  routes.get("/:id", async (context) => {
    const record = await visible(context.var.caller, idOf(context));
    return context.json(view(context.var.caller, record));
  });

  async function decide(context: Context<ApiEnv>, decision: "approve" | "deny"): Promise<Response> {
    const { caller } = context.var;
    const { issuer, subject, email, groups } = caller.identity;
    const id = idOf(context);
    const { reason } = await readDecisionBody(context);
    const record = await visible(caller, id);
    const answer = mayDecide(caller.identity, heldCommand(record), now());
    if (!answer.allowed) {
      deps.log.warn("an approval was refused its decider", {
        approval: id,
        issuer,
        subject,
        decision,
        code: answer.code,
      });
      throw new GatewayError(answer.code, answer.message);
    }
    const decided = await deps.store.decideApproval({
      id,
      decision,
      by: { issuer, subject, email, groups },
      at: now(),
      ...(reason !== undefined && { reason }),
    });
    deps.approvalDecided?.(id);
    deps.log.info("approval decided", { approval: id, issuer, subject, decision });
    return context.json(view(caller, decided));
  }
  routes.post("/:id/approve", (context) => decide(context, "approve"));
  routes.post("/:id/deny", (context) => decide(context, "deny"));
  app.route("/v1/approvals", routes);
}

/** An absent body is an empty one. */
async function readDecisionBody(context: Context<ApiEnv>): Promise<z.infer<typeof decisionBody>> {
  const text = await context.req.text();
  if (text === "") return {};
  if (!/^application\/json\b/i.test(context.req.header("content-type") ?? ""))
    throw new GatewayError("api.invalid", "A request's body is JSON, with Content-Type: application/json.");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new GatewayError("api.invalid", "The request's body is not JSON.", { cause });
  }
  return check(decisionBody, value, "body");
}
