/**
 * The JSON API: health, metrics, who am I, approvals, sessions and status. Each call under /v1 carries its caller's own
 * OIDC token; there are no cookies and no cross-origin permissions, so a web page elsewhere can do nothing here.
 */
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { addApprovalRoutes } from "./approvals.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { addHealthRoutes } from "./health.ts";
import {
  type ApiEnv,
  authenticate,
  boundRequests,
  errorBody,
  refuseHead,
  renderError,
  securityHeaders,
} from "./http.ts";
import { addSessionRoutes } from "./sessions.ts";
import { addStatusRoutes } from "./status.ts";

export function createApi(deps: ApiDependencies): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>();
  app.use(securityHeaders());
  app.onError((error, context) => renderError(error, context, deps.log));
  app.notFound((context) => context.json(errorBody("api.not_found", "There is nothing at this address."), 404));

  addHealthRoutes(app, deps);
  app.use(
    "/v1/*",
    bodyLimit({
      maxSize: limits.apiBodyBytesMax,
      onError: () => {
        throw new GatewayError("protocol.too_large", `A request's body is at most ${limits.apiBodyBytesMax} bytes.`);
      },
    }),
  );
  app.use("/v1/*", authenticate(deps.verifier));
  app.use("/v1/*", refuseHead());
  app.use("/v1/*", boundRequests());
  addStatusRoutes(app, deps);
  addApprovalRoutes(app, deps);
  addSessionRoutes(app, deps);
  return app;
}
