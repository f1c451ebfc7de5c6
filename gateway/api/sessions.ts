/** Recorded sessions: list, read, stream and verify. A caller sees its own; an auditor (policy data) sees all. */
import { Hono } from "hono";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import type { Authenticated } from "../identity/verifier.ts";
import { limits } from "../limits.ts";
import { isAuditor, maySeeSession } from "./approval-rules.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { type ApiEnv, check, idOf, instant, pageSize, queryOf } from "./http.ts";
import { Slots } from "./slots.ts";
import { pageOf, pageView, type SessionRecord, sessionView } from "./views.ts";

const text = z.string().max(400);
const listQuery = z.strictObject({
  who: text.optional(),
  target: text.optional(),
  verdict: z.enum(["allow", "deny", "mask", "approve"]).optional(),
  text: text.optional(),
  since: instant.optional(),
  until: instant.optional(),
  limit: pageSize.optional(),
  before: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,100}$/, "not a cursor")
    .optional(),
});
const eventsQuery = z.strictObject({
  from: z
    .string()
    .regex(/^[0-9]{1,15}$/, "a number")
    .transform(Number)
    .optional(),
  limit: z
    .string()
    .regex(/^[1-9][0-9]{0,8}$/, "a number from 1")
    .transform(Number)
    .optional(),
});

export function addSessionRoutes(app: Hono<ApiEnv>, deps: ApiDependencies): void {
  const routes = new Hono<ApiEnv>();
  const exports = new Slots("recordings are sent");

  /** What the caller may not see does not exist for it. */
  async function visible(caller: Authenticated, id: string): Promise<SessionRecord> {
    const record = await deps.store.getSession(id);
    if (record === undefined || !maySeeSession(caller.identity, record, deps.policyData()))
      throw new GatewayError("api.not_found", "There is no such session, or it is not yours to see.");
    return record;
  }

  routes.get("/", async (context) => {
    const { text: sought, limit = 50, ...filter } = check(listQuery, queryOf(context), "query");
    const { identity } = context.var.caller;
    const own = isAuditor(identity, deps.policyData()) ? {} : { issuer: identity.issuer, subject: identity.subject };
    const query = { ...filter, ...own, limit };
    const { sessions, next } =
      sought === undefined
        ? pageOf(await deps.store.listSessions(query), limit)
        : await deps.store.searchSessions(query, sought);
    const shown = sessions.filter((record) => maySeeSession(identity, record, deps.policyData()));
    return context.json(pageView({ sessions: shown, next }));
  });

  routes.get("/:id", async (context) => context.json(sessionView(await visible(context.var.caller, idOf(context)))));

  routes.get("/:id/events", async (context) => {
    const query = check(eventsQuery, queryOf(context), "query");
    const { caller } = context.var;
    const { id } = await visible(caller, idOf(context));
    context.header("Content-Type", "application/jsonl; charset=utf-8");
    const failed = (error: unknown) => deps.log.error("a recording could not be streamed", { session: id, error });
    const ended = exports.take(caller.identity, limits.apiExportsPerIdentityMax, limits.apiExportsMax);
    return context.body(jsonLines(deps.store.lines(id, query.from), query.limit, failed, ended));
  });

  routes.get("/:id/verify", async (context) => {
    const { id } = await visible(context.var.caller, idOf(context));
    return context.json(await deps.verifySession(id));
  });
  app.route("/v1/sessions", routes);
}

/** The status is sent when a reading fails: the connection is cut, so that nobody takes what came for all of it. */
function jsonLines(
  chunks: AsyncIterable<{ readonly lines: readonly string[] }>,
  limit: number | undefined,
  failed: (error: unknown) => void,
  ended: () => void,
): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let left = limit ?? Number.POSITIVE_INFINITY;
  /** Its reader went away, perhaps while a chunk was waited for. */
  let isLeft = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        // A reader that is fast would have all of it in one turn, and sessions wait.
        await new Promise(setImmediate);
        const next = left > 0 && !isLeft ? await iterator.next() : undefined;
        if (isLeft) return;
        if (next === undefined || next.done === true) {
          ended();
          return controller.close();
        }
        const { lines } = next.value;
        const sent = lines.length > left ? lines.slice(0, left) : lines;
        left -= sent.length;
        controller.enqueue(encoder.encode(sent.map((line) => `${line}\n`).join("")));
      } catch (error) {
        ended();
        failed(error);
        // What was read goes out first, and the status.
        await Bun.sleep(1);
        // Without the error, which Bun would write to stderr beside the log.
        controller.error();
      }
    },
    async cancel() {
      isLeft = true;
      ended();
      await iterator.return?.();
    },
  });
}
