INSERT INTO audit_log (actor_id, action, object_type, object_id, detail, trace_id)
SELECT actor_id, action, 'booking', object_id, detail, trace_id
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::jsonb[], $5::text[])
     AS a (actor_id, action, object_id, detail, trace_id)
