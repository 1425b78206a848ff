ALTER TABLE venues DROP COLUMN created_by;
