-- scope_map is that of a repository token; external is what an issuer of identities calls a
-- user or a group, as "ISSUER SUBJECT". A disabled principal proves nothing and has nothing.
alter table principals add column description text not null default '';
alter table principals add column scope_map text not null default '';
alter table principals add column external text;
alter table principals add column created_by text not null default '';
alter table principals add column disabled_at integer;

create unique index principals_external on principals (external) where external is not null;
create index principals_scope_map on principals (scope_map) where scope_map <> '';

-- kind is secret or key; a key's hash is its public JWK (RFC 7517). warned is the number of
-- days before its end of which was warned last.
alter table secrets add column kind text not null default 'secret';
alter table secrets add column name text not null default '';
alter table secrets add column created_by text not null default '';
alter table secrets add column warned integer not null default 0;

create index secrets_expire on secrets (expires_at) where expires_at is not null;

-- What must hold of a request for the assignment to count, in CEL; '' for any.
alter table assignments add column condition text not null default '';

create index assignments_role on assignments (role);

create table members (
	group_id     text not null references principals (id) on delete cascade,
	principal_id text not null references principals (id) on delete cascade,
	primary key (group_id, principal_id)
) strict, without rowid;

create index members_principal on members (principal_id);

-- Roles made here, and what repository tokens may do. doc is JSON.
create table roles (
	name text not null primary key,
	doc  text not null
) strict, without rowid;

create table scope_maps (
	name text not null primary key,
	doc  text not null
) strict, without rowid;

-- Whose tokens prove a principal: an issuer's, for an audience, of whose claims a rule in CEL
-- holds. once is 1 where a token counts one time only.
create table federations (
	name         text not null primary key,
	principal_id text not null references principals (id) on delete cascade,
	issuer       text not null,
	audience     text not null,
	rule         text not null,
	once         integer not null,
	created_at   integer not null,
	created_by   text not null
) strict, without rowid;

create index federations_issuer on federations (issuer);
create index federations_principal on federations (principal_id);

-- Tokens that count one time only, until they have run out.
create table used_tokens (
	id    text not null primary key,
	until integer not null
) strict, without rowid;

create index used_tokens_until on used_tokens (until);

-- Whoever brings no credentials; it has what is assigned to it, at first nothing.
insert into principals (id, kind, name, created_at) values ('anonymous', 'anonymous', 'anonymous', 0);

-- What was done or refused, and by whom: a row for each act, written with the act itself. seq and
-- hash are null until the row is chained to the one before, which happens shortly after. doc is JSON.
create table audit (
	id       integer primary key,
	at       integer not null,
	actor    text not null,
	action   text not null,
	target   text not null,
	decision text not null,
	doc      text not null,
	seq      integer,
	hash     blob
) strict;

create unique index audit_seq on audit (seq) where seq is not null;
create index audit_unchained on audit (id) where seq is null;
create index audit_actor on audit (actor, seq) where seq is not null;

-- The seq of the last row that was chained.
insert into counters (name, value) values ('audit', 0);

-- How often it was pulled.
alter table holdings add column pulls integer not null default 0;
alter table tags add column pulls integer not null default 0;

-- Lists of tags by time, and what is locked of them.
create index tags_moved on tags (repository_id, moved_at, name);
create index tags_closed on tags (repository_id, closed) where closed > 0;

-- How many manifests a repository holds.
alter table usage add column manifests integer not null default 0;
insert into usage (repository_id, bytes, tags)
	select r.id, 0, 0 from repositories r where not exists (select 1 from usage u where u.repository_id = r.id);
update usage set manifests = (select count(*) from holdings h where h.repository_id = usage.repository_id);
