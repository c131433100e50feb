// An OpenID Connect provider for tests: people and their claims are set over /test/people.
// Usage: node server.mjs PORT CALLBACK...
import Provider from 'oidc-provider';

const [port, ...callbacks] = process.argv.slice(2);
const issuer = `http://localhost:${port}`;
const people = new Map();

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'hub', client_secret: 'CANARY-client-secret', redirect_uris: callbacks, grant_types: ['authorization_code', 'refresh_token'] },
    { client_id: 'other', client_secret: 'other-secret', redirect_uris: callbacks, grant_types: ['authorization_code'] },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups', '_claim_names', '_claim_sources'] },
  scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
  conformIdTokenClaims: false,
  pkce: { methods: ['S256'], required: () => true },
  features: { claimsParameter: { enabled: true }, revocation: { enabled: true } },
  issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  findAccount: async (ctx, id) => (people.has(id) ? { accountId: id, claims: async () => ({ sub: id, ...people.get(id) }) } : undefined),
  cookies: { keys: ['test'] },
  ttl: { AccessToken: 3600, IdToken: 3600, Interaction: 3600, Session: 3600, Grant: 3600, RefreshToken: 3600 },
});

provider.use(async (ctx, next) => {
  if (ctx.path !== '/test/people') return next();
  let body = '';
  for await (const chunk of ctx.req) body += chunk;
  people.clear();
  for (const [id, claims] of Object.entries(JSON.parse(body))) people.set(id, claims);
  ctx.body = 'ok';
});
provider.on('server_error', (ctx, error) => console.error(error));
provider.listen(Number(port), 'localhost', () => console.log('ready'));
