/** Who am I, and which policy is in force. */
import type { Hono } from "hono";
import { isAuditor } from "./approval-rules.ts";
import type { ApiDependencies } from "./dependencies.ts";
import type { ApiEnv } from "./http.ts";

export function addStatusRoutes(app: Hono<ApiEnv>, deps: ApiDependencies): void {
  app.get("/v1/whoami", (context) => {
    const { identity, expiresAtMs } = context.var.caller;
    const { issuer, subject, email, groups, kind } = identity;
    const auditor = isAuditor(identity, deps.policyData());
    return context.json({
      issuer,
      subject,
      email,
      groups,
      kind,
      auditor,
      expiresAt: new Date(expiresAtMs).toISOString(),
    });
  });

  app.get("/v1/status", async (context) => {
    const { ok, checks } = await deps.ready();
    const { revision, source, signedBy, loadedAt, attemptedAt, lastError } = deps.policyStatus();
    const iso = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
    return context.json({
      gateway: deps.name ?? "",
      ready: ok,
      checks,
      policy: {
        revision,
        source: source ?? null,
        signedBy: signedBy ?? null,
        loadedAt: iso(loadedAt),
        attemptedAt: iso(attemptedAt),
        lastError: lastError ?? null,
      },
    });
  });
}
