-- Who may change a venue besides admins: the organizer who entered it. Null: an admin's, or Evently's own.
ALTER TABLE venues ADD COLUMN created_by uuid REFERENCES users;
