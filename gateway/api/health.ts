/** Liveness, readiness and metrics: without a token, since they carry no person, statement or value. */
import type { Hono } from "hono";
import type { ApiDependencies } from "./dependencies.ts";
import type { ApiEnv } from "./http.ts";

export function addHealthRoutes(app: Hono<ApiEnv>, deps: ApiDependencies): void {
  app.get("/healthz", (context) => context.json({ ok: true }));

  app.get("/readyz", async (context) => {
    try {
      const { ok, checks } = await deps.ready();
      return context.json({ ok, checks }, ok ? 200 : 503);
    } catch (error) {
      deps.log.error("the readiness check failed", { error });
      return context.json({ ok: false, checks: { readiness: "failed" } }, 503);
    }
  });

  app.get("/metrics", (context) =>
    context.body(deps.metrics.render(), 200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" }),
  );
}
